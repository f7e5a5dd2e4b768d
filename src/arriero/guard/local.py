"""The guard's rules for a model that runs here: what its callers may ask, by the same functions. Pure.

A model without such rules has no policy, and its requests never come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.guard.body import read_body
from arriero.guard.counts import integer
from arriero.guard.limits import limit_tokens
from arriero.guard.logprobs import check_logprobs
from arriero.guard.policy import OverLimit, Policy

if TYPE_CHECKING:
    from arriero.config.schema import ModelConfig
    from arriero.guard.routes import Route

MOST_CHOICES = 16
"""Of `n`, on every model that runs here."""
LIMITS = ("max_tokens", "max_completion_tokens")


def has_rules(model: ModelConfig) -> bool:
    """Say whether a configuration limits what callers may ask of a model."""
    return not model.allow_logprobs or model.max_tokens is not None or model.max_n < MOST_CHOICES


def local_policy(name: str, model: ModelConfig) -> Policy:
    """Return the rules of `[models.NAME]`."""
    public_name = model.public_name or name
    return Policy(
        public_name=public_name,
        upstream_name=public_name,
        allow_logprobs=model.allow_logprobs,
        over_limit=OverLimit(model.over_limit),
        max_tokens=model.max_tokens,
        max_n=model.max_n,
    )


def ruled(route: Route, data: bytes, policy: Policy, *, has_own_limit: bool = False) -> tuple[bytes, str]:
    """Return the body of a generating request as the policy allows it, and which limits were lowered.

    The latter is as `TokenLimit.notice` says it. Raises InvalidRequest.

    has_own_limit: what is asked already bounds an answer that is given no limit by its request.
    """
    body = read_body(data, max_bytes=len(data))
    if not policy.allow_logprobs:
        check_logprobs(body, route, policy)
    integer(body, "n", least=1, most=policy.max_n)
    notice = ""
    is_limited = any(body.get(name) is not None for name in LIMITS)
    if policy.max_tokens is not None and (is_limited or not has_own_limit):
        notice = limit_tokens(body, route, policy).notice
    return body.encoded(), notice
