"""What a configuration says of a remote model, as the guard's own values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.guard.policy import OverLimit, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arriero.config.remote import RemoteModelConfig, UpstreamAddress

_SHORTEST_SECRET = 6
"""Shorter hosts, such as `vllm`, are untold only together with their port: they could be any word."""


def policy_of(name: str, model: RemoteModelConfig, *, max_body_bytes: int) -> Policy:
    """Return the rules of `[models.NAME]`; `max_body_bytes` is the server's own bound."""
    upstream = model.upstream
    secrets = {secret for address in upstream.addresses for secret in _telling(address)}
    return Policy(
        public_name=model.public_name or name,
        upstream_name=upstream.model,
        any_model=model.catch_all,
        secrets=tuple(sorted(secrets | {*filter(None, (upstream.api_key,))})),
        allow_logprobs=model.allow_logprobs,
        allow_tokenize="/tokenize" in model.routes,
        over_limit=OverLimit(model.over_limit),
        max_tokens=model.max_tokens,
        max_context=model.max_context,
        max_n=model.max_n,
        max_best_of=model.max_best_of,
        max_prompts=model.max_prompts,
        max_inputs=model.max_embedding_inputs,
        max_documents=model.max_rerank_documents,
        max_body_bytes=model.max_body_bytes or max_body_bytes,
    )


def _telling(address: UpstreamAddress) -> Iterator[str]:
    yield f"{address.host}:{address.port}"
    if "." in address.host or ":" in address.host or len(address.host) >= _SHORTEST_SECRET:
        yield address.host
