"""How many tokens a completion may have: the policy's bound, and what a prompt leaves of the context.

1. Every limit a caller sets is a whole number; null means that none was set.
2. Over the policy's bound a limit is cropped, or the request refused, as the policy says.
3. A request without a limit gets one, so that no upstream's default counts.
4. Prompt and completion fit the context. That needs the prompt's count only when a cheap upper bound
   of it does not already fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from arriero.errors import ContextOverflow, InvalidRequest
from arriero.guard.counts import integer
from arriero.guard.policy import OverLimit
from arriero.guard.prompt_bound import known_tokens, most_tokens
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


class TokenLimit(NamedTuple):
    """What a request was given: its limit, if it has one, and whether its caller asked for it."""

    tokens: int | None
    asked: bool


def limit_tokens(body: Body, route: Route, policy: Policy) -> TokenLimit:
    """Apply steps 1 to 3. Raises InvalidRequest."""
    least = 0 if route is Route.COMPLETIONS and body.get("echo") else 1
    asked = [
        (name, tokens) for name in _MEMBERS[route] if (tokens := integer(body, name, least=least)) is not None
    ]
    bound = policy.max_tokens if policy.max_tokens is not None else policy.max_context
    for name, tokens in asked:
        body.put(name, _bounded(name, tokens, bound, policy))
    if not asked:
        _add_limit(body, route, bound)
    tokens = _tokens(body, route)
    _limit_min_tokens(body, tokens, policy)
    return TokenLimit(tokens, bool(asked))


def needs_prompt_count(body: Body, route: Route, policy: Policy, limit: TokenLimit) -> bool:
    """Say whether the answer to the request depends on the exact count of its prompt's tokens."""
    enough = enough_prompt_tokens(policy, limit)
    if enough is None or known_tokens(body, route) is not None:
        return False
    most = most_tokens(body, route, policy)
    return most is None or most > enough


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
    for name in _MEMBERS[route]:
        tokens = body.get(name)
        if tokens is not None and tokens > left:
            if limit.asked and policy.over_limit is OverLimit.REJECT:
                raise _over_limit(name, tokens, left)
            body.put(name, left)
    tokens = _tokens(body, route)
    _limit_min_tokens(body, tokens, policy)
    return TokenLimit(tokens, limit.asked)


def _bounded(name: str, tokens: int, bound: int | None, policy: Policy) -> int:
    if bound is None or tokens <= bound:
        return tokens
    if policy.over_limit is OverLimit.REJECT:
        raise _over_limit(name, tokens, bound)
    return bound


def _over_limit(name: str, tokens: int, bound: int) -> InvalidRequest:
    asked = tokens if tokens < 1 << 64 else "far more"
    return InvalidRequest(f"`{name}` may be at most {bound} here, {asked} was asked for", param=name)


def _add_limit(body: Body, route: Route, bound: int | None) -> None:
    if route is Route.COMPLETIONS:
        body.put(_ADDED[route], min(_COMPLETIONS_DEFAULT, bound or _COMPLETIONS_DEFAULT))
    elif bound is not None:
        body.put(_ADDED[route], bound)


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
