"""The Jinja environment in which chat templates run: the dialect of Hugging Face, sandboxed and bounded.

A template comes out of a model file, so it is foreign code. The sandbox gives it no way to Python
objects, files or modules; the bounds here end loops, recursion and growth, also that by a single
method, filter or format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from arriero.engine.template_growth import GROWING, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import CodeType

    from jinja2.runtime import Context

MAX_STEPS = 50_000
"""Turns of loops and calls of macros in one rendering."""
MAX_CHARS = 16 * 1024 * 1024
"""Length of the rendered text and of any text or list that an operator makes."""
MAX_BITS = 4096
"""Size of a number that an operator makes."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering; it owns the count of steps that are left to it.

    Dialect: trim_blocks, lstrip_blocks, break and continue, `generation` blocks (no effect),
    `raise_exception`, `strftime_now`, and a `tojson` that escapes nothing for HTML.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationBlock],
            optimized=False,
        )
        self.filters["tojson"] = to_json
        self.filters |= {
            name: self._bounded(name, self.filters[name]) for name in GROWING & self.filters.keys()
        }
        self.globals["raise_exception"] = raise_exception
        self.globals["strftime_now"] = lambda form: now().strftime(form)
        self._steps_left = MAX_STEPS

    def render(self, code: CodeType, values: Mapping[str, object]) -> str:
        """Run a compiled template. Raises TemplateError, or whatever the template's expressions raise."""
        template = Template.from_code(self, code, self.make_globals(None))
        pieces: list[str] = []
        length = 0
        for piece in template.generate(**values):
            pieces.append(piece)
            length += len(piece)
            self._bound(length)
        return "".join(pieces)

    def step(self) -> str:
        """Count one turn of a loop or one call of a macro."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise SecurityError(f"the template takes more than {MAX_STEPS} steps")
        return ""

    def joined(self, *values: object) -> str:
        """Do the work of the operator `~`."""
        texts = [str(value) for value in values]
        self._bound(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse an operation with too large a result before it is carried out."""
        if isinstance(left, int) and isinstance(right, int):
            size = (
                left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            )
            self._bound(size, MAX_BITS)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            self._bound(len(left) + len(right))
        elif operator == "*":
            self._bound(_repeated(left, right))
        elif operator == "%":
            self._bound(size_of("%", left, (right,)))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Refuse a call with too large a result before it is carried out. Jinja2 names its parameters so."""
        name = getattr(__obj, "__name__", "")
        if name in GROWING:
            # Jinja2 puts a function of its own around the methods that format.
            value = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
            if name == "join" and args:  # the text that joins has the method
                __self._bound(size_of(name, args[0], (value,)))
            else:
                __self._bound(size_of(name, value, (*args, *kwargs.values())))
        return super().call(__context, __obj, *args, **kwargs)

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the filter, which refuses to make too large a value."""
        # Some filters are handed the environment or the like before their value.
        place = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            value = args[place]
            if name == "join" and isinstance(value, Iterator):
                value = list(value)
                args = (*args[:place], value, *args[place + 1 :])
            self._bound(size_of(name, value, (*args[place + 1 :], *kwargs.values())))
            return function(*args, **kwargs)

        return bounded

    def _bound(self, size: int, limit: int = MAX_CHARS) -> None:
        if size > limit:
            raise SecurityError(f"the template makes a value of size {size}, more than {limit}")

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = Parser(self, source, name, filename).parse()
        return _Counted(self).visit(template)  # type: ignore[no-any-return]


class GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks text for training; here it only opens a scope."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance attribute

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=lineno)


class _Counted(NodeTransformer):
    """Puts a `step` at the head of all that can run again, and `joined` in the place of `~`."""

    def __init__(self, environment: TemplateSandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 finds it by name
        return self._with_step(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._call("joined", node.nodes, node.lineno)

    def _with_step(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        step = nodes.ExprStmt(self._call("step", [], node.lineno), lineno=node.lineno)
        node.body.insert(0, step.set_environment(self._environment))
        return node

    def _call(self, method: str, arguments: list[nodes.Expr], lineno: int) -> nodes.Call:
        attribute = nodes.EnvironmentAttribute(method, lineno=lineno)
        call = nodes.Call(attribute, arguments, [], None, None, lineno=lineno)
        call.set_environment(self._environment)
        return call


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as it is; jinja2's own filter would escape it for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message: str) -> NoReturn:
    """Let a template refuse messages."""
    raise TemplateError(message)


def _repeated(left: object, right: object) -> int:
    match left, right:
        case (str() | list() | tuple(), int()):
            return len(left) * right
        case (int(), str() | list() | tuple()):
            return left * len(right)
        case _:
            return 0
