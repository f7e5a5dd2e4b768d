"""What OpenAI's two generating routes share: their parameters, bounds, and what is refused by name.

Unknown members are ignored, as other servers do, unless they would change the meaning of the answer.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from arriero.errors import InvalidRequest
from arriero.guard.local import ruled
from arriero.server.body import beside, decoded, read_json_bytes
from arriero.server.context import context_of, principal_of
from arriero.server.model_name import model_name
from arriero.server.routes.openai.response_format import ConstraintMembers
from arriero.tasks.sampling_overrides import with_overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from arriero.guard.routes import Route
    from arriero.sampling import SamplingParams

UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "function_call": (None, "none", "auto"),
    "functions": (None, []),
    "guided_whitespace_pattern": (None,),
    "modalities": (None, ["text"]),
    "structural_tag": (None,),
    "suffix": (None, ""),
    "web_search_options": (None,),
}
"""Members that change the meaning -> the values that leave it as it is. Any other value is refused."""

INSTEAD = {"functions": "use tools", "function_call": "use tool_choice"}
"""What does the same here."""

Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool = False


class Parameters(ConstraintMembers, kw_only=True):
    """Members of both requests. The last five are the field's extensions."""

    route: ClassVar[Route]
    unsupported: ClassVar[dict[str, tuple[object, ...]]] = UNSUPPORTED

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0)] = 0
    ignore_eos: bool = False

    def refuse_on_task(self) -> None:
        """Raise InvalidRequest for what a task's own end must not be overridden by."""
        for name in ("min_tokens", "ignore_eos"):
            if getattr(self, name):
                raise InvalidRequest(f"{name} is not possible on a task", param=name)

    @property
    def num_choices(self) -> int:
        """How many completions of a prompt are wanted."""
        return self.n or 1

    @property
    def stop_sequences(self) -> tuple[str, ...]:
        """The texts that end a completion."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


P = TypeVar("P", bound=Parameters)


async def read_parameters(request: Request, kind: type[P]) -> P:
    """Return the body of a generating request. Raises InvalidRequest whose `param` names the member."""
    body = await read_json_bytes(request)
    await beside(len(body), partial(_refuse_unsupported, body, kind.unsupported))
    ruled_body = await _ruled(request, kind.route, body)
    return await beside(len(ruled_body), partial(decoded, ruled_body, kind))


async def _ruled(request: Request, route: Route, body: bytes) -> bytes:
    """Return the body as the rules of its model allow it. Raises InvalidRequest, UnknownName, Forbidden."""
    name = await beside(len(body), partial(model_name, body))
    if name is None:
        return body
    context = context_of(request)
    context.model_or_task(principal_of(request), name)  # rules are told only to those who may use the model
    policy = context.policy(name)
    if policy is None:
        return body
    check = partial(ruled, route, body, policy, has_own_limit=name not in context.policies)
    ruled_body, request.state.cropped = await beside(len(body), check)
    return ruled_body


def _refuse_unsupported(body: bytes, unsupported: Mapping[str, tuple[object, ...]]) -> None:
    """Raise InvalidRequest for the first member that this server cannot honour."""
    members = decoded(body, _named(tuple(unsupported)))
    for name, neutral in unsupported.items():
        value: msgspec.Raw = getattr(members, name)
        if value and msgspec.json.decode(value) not in neutral:
            instead = f"; {INSTEAD[name]}" if name in INSTEAD else ""
            raise InvalidRequest(f"{name} is not supported with this value{instead}", param=name)


@cache
def _named(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a type that reads these members alone, each as it is spelt; a body may have very many others."""
    return msgspec.defstruct("Named", [(name, msgspec.Raw, msgspec.Raw()) for name in names])


def sampling(parameters: Parameters, defaults: SamplingParams, *, num_tokens: int) -> SamplingParams:
    """Return the defaults with the request's own values in their places.

    num_tokens: of the model; 0 = they are not known here.
    """
    for key in parameters.logit_bias or {}:
        if num_tokens and key.isdecimal() and len(key) < 10 and int(key) >= num_tokens:
            raise InvalidRequest(f"logit_bias: token ids end at {num_tokens - 1}", param="logit_bias")
    return with_overrides(
        defaults,
        temperature=parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        min_p=parameters.min_p,
        frequency_penalty=parameters.frequency_penalty,
        presence_penalty=parameters.presence_penalty,
        repeat_penalty=parameters.repeat_penalty,
        seed=parameters.seed,
        logit_bias=parameters.logit_bias,
    )
