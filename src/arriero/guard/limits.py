"""How many tokens a completion may have: the policy's bound, and what a prompt leaves of the context.

1. Every limit a caller sets is a whole number; null means that none was set.
2. Over the policy's bound a limit is cropped, or the request refused, as the policy says.
3. A request without a limit gets one, so that no upstream's default counts.
4. Prompt and completion fit the context. That needs the prompt's count only when a cheap upper bound
   of it does not already fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.errors import ContextOverflow, InvalidRequest
from arriero.guard.counts import integer
from arriero.guard.policy import OverLimit
from arriero.guard.routes import Route

if TYPE_CHECKING:
    from arriero.guard.body import Body
    from arriero.guard.policy import Policy

# Of two members that are both there, upstreams obey one or the other: both are limited.
_MEMBERS = {
    Route.CHAT: ("max_completion_tokens", "max_tokens"),
    Route.COMPLETIONS: ("max_tokens",),
    Route.RESPONSES: ("max_output_tokens",),
}
# The one that is added: every known upstream reads it.
_ADDED = {Route.CHAT: "max_tokens", Route.COMPLETIONS: "max_tokens", Route.RESPONSES: "max_output_tokens"}
_COMPLETIONS_DEFAULT = 16


class TokenLimit(msgspec.Struct, frozen=True, gc=False):
    """What a request was given: its limit, if it has one, and whether its caller asked for one.

    cropped: the members that asked for more; each is `tokens` now.
    """

    tokens: int | None
    asked: bool
    cropped: tuple[str, ...] = ()

    @property
    def notice(self) -> str:
        """What the caller is told of it: each member with the limit that it got instead; "" if none."""
        return ", ".join([f"{name}={self.tokens}" for name in self.cropped]) if self.cropped else ""


def limit_tokens(body: Body, route: Route, policy: Policy) -> TokenLimit:
    """Apply steps 1 to 3. Raises InvalidRequest."""
    values = body.values
    least = 0 if route is Route.COMPLETIONS and values.get("echo") else 1
    bound = policy.max_tokens if policy.max_tokens is not None else policy.max_context
    most: int | None = None
    cropped: tuple[str, ...] = ()
    for name in _MEMBERS[route]:
        if name not in values or (asked := integer(body, name, least=least)) is None:
            continue
        if bound is not None and asked > bound:
            if policy.over_limit is OverLimit.REJECT:
                raise _over_limit(name, asked, bound)
            body.put(name, asked := bound)
            cropped += (name,)
        most = asked if most is None or asked > most else most
    limit = (
        TokenLimit(most, asked=True, cropped=cropped)
        if most is not None
        else _added_limit(body, route, bound)
    )
    if "min_tokens" in values:
        _limit_min_tokens(body, limit.tokens, policy)
    return limit


def enough_prompt_tokens(policy: Policy, limit: TokenLimit) -> int | None:
    """Return how many tokens a prompt may have before its count matters, None if it never does."""
    if policy.max_context is None:
        return None
    return policy.max_context - (policy.max_context if limit.tokens is None else limit.tokens)


def fit_context(
    body: Body, route: Route, policy: Policy, *, limit: TokenLimit, prompt_tokens: int
) -> TokenLimit:
    """Apply step 4 with the prompt's count. Raises ContextOverflow, InvalidRequest."""
    if policy.max_context is None:
        return limit
    left = policy.max_context - prompt_tokens
    if left < min(1, limit.tokens if limit.tokens is not None else 1):
        raise ContextOverflow(
            f"the prompt has {prompt_tokens} tokens; prompt and completion together may have"
            f" {policy.max_context}",
            param=_prompt_member(route),
        )
    cropped = limit.cropped
    for name in _MEMBERS[route]:
        tokens = body.get(name)
        if tokens is not None and tokens > left:
            if limit.asked and policy.over_limit is OverLimit.REJECT:
                raise _over_limit(name, tokens, left)
            body.put(name, left)
            if limit.asked and name not in cropped:
                cropped += (name,)
    tokens = _tokens(body, route)
    if "min_tokens" in body.values:
        _limit_min_tokens(body, tokens, policy)
    return TokenLimit(tokens, limit.asked, cropped)


def _over_limit(name: str, tokens: int, bound: int) -> InvalidRequest:
    asked = tokens if tokens < 1 << 64 else "far more"
    return InvalidRequest(f"`{name}` may be at most {bound} here, {asked} was asked for", param=name)


def _added_limit(body: Body, route: Route, bound: int | None) -> TokenLimit:
    if route is Route.COMPLETIONS:
        bound = min(_COMPLETIONS_DEFAULT, bound or _COMPLETIONS_DEFAULT)
    if bound is not None:
        body.put(_ADDED[route], bound)
    return TokenLimit(bound, asked=False)


def _tokens(body: Body, route: Route) -> int | None:
    return max((tokens for name in _MEMBERS[route] if (tokens := body.get(name)) is not None), default=None)


def _limit_min_tokens(body: Body, tokens: int | None, policy: Policy) -> None:
    least = integer(body, "min_tokens", least=0)
    if least is None or tokens is None or least <= tokens:
        return
    if policy.over_limit is OverLimit.REJECT:
        raise _over_limit("min_tokens", least, tokens)
    body.put("min_tokens", tokens)


def _prompt_member(route: Route) -> str:
    return {Route.CHAT: "messages", Route.COMPLETIONS: "prompt"}.get(route, "input")
