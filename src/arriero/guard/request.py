"""One request, checked against a policy: what is sent to the upstream, or why nothing is.

Raises errors of the caller only. Two steps, since a prompt is counted only when that decides:
`checked_request`, and `Checked.fitted` where `needs_prompt_count` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from arriero.errors import InvalidRequest, UnknownName
from arriero.guard.counts import check_counts
from arriero.guard.limits import (
    TokenLimit,
    enough_prompt_tokens,
    fit_context,
    limit_tokens,
)
from arriero.guard.logprobs import check_logprobs
from arriero.guard.members import ORDINARY, PASSING
from arriero.guard.prompt_bound import count_requests, known_tokens, most_tokens
from arriero.guard.routes import GENERATING, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arriero.guard.body import Body
    from arriero.guard.policy import Policy

_MAX_NAME = 256
_MAX_DROPPED = 16
_MAX_DROPPED_NAME = 64
_NO_LIMIT = TokenLimit(None, asked=False)
# Refused, not left out: without them the answer would be to another question.
_UNSERVED = {
    Route.CHAT: frozenset({"chat_template"}),
    Route.TOKENIZE: frozenset({"chat_template"}),
    Route.RESPONSES: frozenset({"previous_response_id", "conversation", "prompt", "background"}),
}
_OBJECTS = frozenset({"chat_template_kwargs", "stream_options"})
# Refused inside `chat_template_kwargs`: they replace the template, or how it is run.
_TEMPLATE_SWITCHES = frozenset({"chat_template", "tokenize", "tokenizer", "return_dict", "template"})


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be sent. `body` is all that the upstream sees of the caller's body."""

    route: Route
    body: bytes
    stream: bool
    choices: int
    """How many completions a whole answer holds."""
    max_tokens: int | None
    dropped: tuple[str, ...]
    """Members that were left out because nothing here knows them; the first few, for a log."""
    needs_prompt_count: bool
    """Whether `fitted` must be asked before the body is sent. If nothing can count the prompt, the body
    may go as it is: its limit is the policy's, and the upstream knows its own context."""
    enough_prompt_tokens: int | None
    """A prompt of so many tokens fits as it is; None if the count never matters."""
    _members: Body
    _policy: Policy
    _limit: TokenLimit

    def fitted(self, prompt_tokens: int) -> Checked:
        """Return the request with the limit that its prompt leaves, once; this one is then used up.

        Raises ContextOverflow, InvalidRequest.
        """
        limit = fit_context(
            self._members, self.route, self._policy, limit=self._limit, prompt_tokens=prompt_tokens
        )
        return msgspec.structs.replace(
            self,
            body=self._members.encoded(),
            max_tokens=limit.tokens,
            needs_prompt_count=False,
            _limit=limit,
        )

    @property
    def cropped(self) -> str:
        """What the caller is told of a limit below what it asked for: "max_tokens=128"; "" if it got that."""
        return self._limit.notice

    @property
    def members(self) -> Mapping[str, Any]:
        """What is sent, as values."""
        return self._members.values

    def count_requests(self) -> tuple[bytes, ...] | None:
        """Return the bodies for the upstream's `/tokenize`, or None if it cannot count this prompt."""
        return count_requests(self._members, self.route)


def requested_model(body: Body) -> str | None:
    """Return the name that a caller wrote, None if it is null, missing or no text."""
    name = body.get("model")
    return name if isinstance(name, str) else None


def checked_request(route: Route, body: Body, policy: Policy) -> Checked:
    """Check one request and take over its body. Raises InvalidRequest, UnknownName, ContextOverflow."""
    if route is Route.MODELS or (route is Route.TOKENIZE and not policy.allow_tokenize):
        raise UnknownName("path", route.value)
    _set_model(body, policy)
    # An ordinary request has no member that the rules of the block are about.
    dropped: tuple[str, ...] = ()
    if not ORDINARY[route].issuperset(body.values):
        _refuse_unserved(body, route, policy)
        dropped = _drop_unknown(body, route, policy)
        check_logprobs(body, route, policy)
        _check_nested(body)
    stream = "stream" in body.values and _switch(body, "stream")
    choices = check_counts(body, route, policy)
    limit, enough, needs_count = _NO_LIMIT, None, False
    if route in GENERATING:
        limit = limit_tokens(body, route, policy)
        tokens = known_tokens(body) if route is Route.COMPLETIONS else None
        if tokens is not None:
            limit = fit_context(body, route, policy, limit=limit, prompt_tokens=tokens)
        enough = enough_prompt_tokens(policy, limit)
        if tokens is None and enough is not None:
            most = most_tokens(body, route, policy, enough=enough)
            needs_count = most is None or most > enough
    return Checked(
        route=route,
        body=body.encoded(),
        stream=stream,
        choices=choices,
        max_tokens=limit.tokens,
        dropped=dropped,
        needs_prompt_count=needs_count,
        enough_prompt_tokens=enough,
        _members=body,
        _policy=policy,
        _limit=limit,
    )


def _set_model(body: Body, policy: Policy) -> None:
    name = body.values.get("model")
    if not policy.any_model and name is not None:
        if not isinstance(name, str):
            raise InvalidRequest("`model` must be a text", param="model")
        if name != policy.public_name:
            raise UnknownName("model", name[:_MAX_NAME], param="model")
    body.put("model", policy.upstream_name)


def _refuse_unserved(body: Body, route: Route, policy: Policy) -> None:
    for name in _UNSERVED.get(route, frozenset()) & body.values.keys() - policy.extra_members:
        if body.get(name) not in (None, False):
            raise InvalidRequest(f"`{name}` is not served here", param=name)


def _drop_unknown(body: Body, route: Route, policy: Policy) -> tuple[str, ...]:
    passing = PASSING[route]
    unknown = [name for name in body.values if name not in passing and name not in policy.extra_members]
    for name in unknown:
        body.drop(name)
    return tuple(name[:_MAX_DROPPED_NAME] for name in unknown[:_MAX_DROPPED])


def _switch(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is None:
        body.drop(name)
        return False
    if not isinstance(value, bool):  # upstreams read 1 and "true" as true
        raise InvalidRequest(f"`{name}` must be true or false", param=name)
    return value


def _check_nested(body: Body) -> None:
    for name in _OBJECTS & body.values.keys():
        if not isinstance(body.get(name), dict | None):
            raise InvalidRequest(f"`{name}` must be an object", param=name)
    switches = _TEMPLATE_SWITCHES & (body.get("chat_template_kwargs") or {}).keys()
    if switches:
        name = min(switches)
        raise InvalidRequest(f"`{name}` is not allowed here", param=f"chat_template_kwargs.{name}")
