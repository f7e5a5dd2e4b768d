"""`tools`, `tool_choice` and `parallel_tool_calls`: checked, and turned into the constraint of an answer."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from arriero.core import Span
from arriero.errors import InvalidRequest
from arriero.grammar.call_format import HERMES, CallFormat, taught_format
from arriero.grammar.call_parser import CallParser
from arriero.grammar.tools import NO_PARAMETERS, arguments_schema, possible_calls, required_calls
from arriero.server.routes.openai.parameters import Parameters

if TYPE_CHECKING:
    from arriero.core import Constraint
    from arriero.server.context import ModelLike

MAX_TOOLS = 128
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)


class Function(msgspec.Struct):
    """A tool's `function`. Whether `strict` or not, its parameters are enforced."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """One of `tools`."""

    type: Literal["function"]
    function: Function

    @property
    def shown(self) -> dict[str, Any]:
        """The tool as the model's template shows it."""
        function = {"name": self.function.name, "description": self.function.description}
        said = {key: value for key, value in function.items() if value is not None}
        parameters = self.function.parameters or NO_PARAMETERS
        return {"type": "function", "function": {**said, "parameters": parameters}}


class ChosenFunction(msgspec.Struct):
    """The `function` of a `tool_choice`."""

    name: str


class ChosenTool(msgspec.Struct):
    """A `tool_choice` that names a tool."""

    type: Literal["function"]
    function: ChosenFunction


class ToolMembers(Parameters, kw_only=True):
    """Those of the parameters that concern tools, which only a chat has."""

    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the model is told of: none when none may be called. Raises InvalidRequest."""
        tools = self.tools or []
        self._check_names(tools)
        choice = self.tool_choice
        if isinstance(choice, ChosenTool):
            if choice.function.name not in [tool.function.name for tool in tools]:
                raise InvalidRequest(
                    f"tool_choice: no tool is named {choice.function.name!r}",
                    param="tool_choice.function.name",
                )
        elif choice == "required" and not tools:
            raise InvalidRequest("tool_choice 'required' needs tools", param="tool_choice")
        return [] if choice == "none" else tools

    @staticmethod
    def _check_names(tools: list[Tool]) -> None:
        seen: set[str] = set()
        for index, tool in enumerate(tools):
            name, where = tool.function.name, f"tools[{index}].function.name"
            if NAME.fullmatch(name) is None:
                raise InvalidRequest(f"{where} must be 1 to 64 of a-z, A-Z, 0-9, _ and -", param=where)
            if name in seen:
                raise InvalidRequest(f"{where}: there is a tool {name!r} already", param=where)
            seen.add(name)


class ToolUse(NamedTuple):
    """What a request with tools needs: the tools for the prompt, the constraint, and the form of calls.

    free_text: an answer may hold text that need not match anything.
    """

    shown: list[dict[str, Any]]
    constraint: Constraint
    free_text: bool
    form: CallFormat
    special: dict[str, int]

    def parser(self) -> CallParser:
        """Return a parser for one answer."""
        return CallParser(self.form, self.special)


async def tool_use(members: ToolMembers, model: ModelLike, answer: Constraint | None) -> ToolUse | None:
    """Return how a model may use the tools of a request, None when it may call none.

    answer: what an answer without calls must match. Raises InvalidRequest naming the member. Schemas
        are checked in a thread, because large ones take a while.
    """
    tools = members.offered_tools
    if not tools:
        return None
    form = taught_format(model.info.chat_template) or HERMES
    special = await _special(form, model)

    def constraint() -> Constraint:
        return _constraint(members, tools, form, special, answer)

    checked = await asyncio.to_thread(constraint)
    free_text = members.tool_choice in (None, "auto") and answer is None
    return ToolUse([tool.shown for tool in tools], checked, free_text, form, special)


def _constraint(
    members: ToolMembers,
    tools: list[Tool],
    form: CallFormat,
    special: dict[str, int],
    answer: Constraint | None,
) -> Constraint:
    choice, parallel = members.tool_choice, members.parallel_tool_calls is not False
    schemas = {
        tool.function.name: arguments_schema(
            tool.function.parameters, where=f"tools[{index}].function.parameters"
        )
        for index, tool in enumerate(tools)
    }
    if isinstance(choice, ChosenTool):
        chosen = {choice.function.name: schemas[choice.function.name]}
        return required_calls(chosen, form, special, parallel=False)
    if choice == "required":
        return required_calls(schemas, form, special, parallel=parallel)
    return possible_calls(schemas, form, special, parallel=parallel, answer=answer)


async def _special(form: CallFormat, model: ModelLike) -> dict[str, int]:
    """Return the ids of the special tokens among the marks of a form."""
    ids = {}
    for name in form.special_names(model.info.special_tokens):
        tokens = await model.tokenize([Span(text=name, special=True)], add_bos=False)
        if len(tokens) == 1:
            ids[name] = tokens[0].token
    return ids
