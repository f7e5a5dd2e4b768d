"""Log probabilities, and the side doors to them: refused, or bounded where a policy allows them.

A member that asks for nothing (null, false, and zero where zero means none) is left out of what is sent,
since clients write such defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arriero.errors import InvalidRequest
from arriero.guard.routes import Route

if TYPE_CHECKING:
    from arriero.guard.body import Body
    from arriero.guard.policy import Policy

# vLLM makes prompt log probabilities of `echo`; token ids tell the tokenizer as log probabilities do.
_SWITCHES = frozenset({"echo", "return_token_ids", "return_tokens_as_token_ids"})
_COUNTS = frozenset({"logprobs", "top_logprobs", "prompt_logprobs"})
FAMILY = _SWITCHES | _COUNTS | {"logprob_token_ids"}


def check_logprobs(body: Body, route: Route, policy: Policy) -> None:
    """Refuse what the policy does not allow. Raises InvalidRequest."""
    for name in sorted(FAMILY & body.values.keys()):
        if _asks_nothing(name, body.get(name)):
            body.drop(name)
        elif not policy.allow_logprobs:
            raise InvalidRequest(f"`{name}` is not allowed for this model and must be omitted", param=name)
        else:
            _check_value(name, body.get(name), route, policy)
    if "include" in body.values:
        _check_include(body.get("include"), policy)


def _asks_nothing(name: str, value: Any) -> bool:
    return value is None or value is False or (name == "top_logprobs" and type(value) is int and value == 0)


def _check_value(name: str, value: Any, route: Route, policy: Policy) -> None:
    is_switch = name in _SWITCHES or (name == "logprobs" and route is Route.CHAT)
    if is_switch and value is True:
        return
    if is_switch:
        raise InvalidRequest(f"`{name}` must be true or false", param=name)
    if name in _COUNTS and not (type(value) is int and 0 <= value <= policy.max_logprobs):
        raise InvalidRequest(f"`{name}` must be a whole number from 0 to {policy.max_logprobs}", param=name)


def _check_include(include: Any, policy: Policy) -> None:
    if include is None:
        return
    if not isinstance(include, list) or not all(isinstance(entry, str) for entry in include):
        raise InvalidRequest("`include` must be a list of strings", param="include")
    if not policy.allow_logprobs and any("logprob" in entry.lower() for entry in include):
        raise InvalidRequest("log probabilities are not allowed for this model", param="include")
