"""Requests under a policy, for the tests of the guard."""

from __future__ import annotations

import json
from typing import Any

from arriero.guard.body import read_body
from arriero.guard.policy import Policy
from arriero.guard.request import Checked, checked_request
from arriero.guard.routes import Route

UPSTREAM = "meta-llama/Llama-3.1-8B-Instruct"
PUBLIC = "pocket_network"
LIMIT, CONTEXT = 1024, 4096
TEXT = {
    Route.CHAT: '"messages":[{"role":"user","content":"Hi"}]',
    Route.COMPLETIONS: '"prompt":"Hi"',
    Route.RESPONSES: '"input":"Hi"',
    Route.EMBEDDINGS: '"input":"Hi"',
    Route.RERANK: '"query":"q","documents":["a","b"]',
    Route.TOKENIZE: '"prompt":"Hi"',
}
LIMIT_OF = {Route.CHAT: "max_tokens", Route.COMPLETIONS: "max_tokens", Route.RESPONSES: "max_output_tokens"}


def policy(**changes: Any) -> Policy:
    rules: dict[str, Any] = {
        "public_name": PUBLIC,
        "upstream_name": UPSTREAM,
        "any_model": True,
        "allow_tokenize": True,
        "max_tokens": LIMIT,
        "max_context": CONTEXT,
        "max_n": 4,
        "max_prompts": 8,
        "max_inputs": 100,
        "max_documents": 100,
    }
    return Policy(**rules | changes)


def check(route: Route, text: str | bytes, **changes: Any) -> Checked:
    data = text.encode() if isinstance(text, str) else text
    rules = policy(**changes)
    return checked_request(route, read_body(data, max_bytes=rules.max_body_bytes), rules)


def sent(route: Route, members: str, **changes: Any) -> dict[str, Any]:
    """What the upstream receives of a request with these members."""
    body: dict[str, Any] = json.loads(check(route, f"{{{TEXT[route]},{members}}}", **changes).body)
    return body
