"""What one key has asked helps no other key, and no answer tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.abuse.subject import KEY, OTHER_KEY

if TYPE_CHECKING:
    import httpx2
    from tests.abuse.figures import Figures
    from tests.abuse.tiny import Engines

PRIVATE = "the quick brown fox has a secret that nobody else may know " * 6
OTHER = "a lazy dog sleeps the whole day and dreams of nothing at all " * 6
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "completion": ("/v1/completions", {"model": "right", "prompt": "PROMPT"}),
    "chat": ("/v1/chat/completions", {"model": "right", "messages": [{"role": "user", "content": "PROMPT"}]}),
    "task": ("/v1/completions", {"model": "task/talk", "prompt": "PROMPT"}),
    "task as chat": (
        "/v1/chat/completions",
        {"model": "task/talk", "messages": [{"role": "user", "content": "PROMPT"}]},
    ),
}


async def cached(client: httpx2.AsyncClient, form: str, prompt: str) -> int:
    """Return how many tokens of a prompt were found evaluated."""
    path, body = FORMS[form]
    said = put(body, prompt)
    answer = await client.post(path, json={**said, "max_tokens": 2})
    assert answer.status_code == 200, answer.text
    details = answer.json()["usage"].get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens", 0))


def put(value: Any, prompt: str) -> Any:
    """Return a body with its prompt."""
    if isinstance(value, dict):
        return {key: put(one, prompt) for key, one in value.items()}
    if isinstance(value, list):
        return [put(one, prompt) for one in value]
    return prompt if value == "PROMPT" else value


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
async def test_nobody_finds_what_another_key_has_asked(engines: Engines, figures: Figures, form: str) -> None:
    """The prompt of one key is cached for that key; for another it is as cold as any other prompt."""
    # Backwards, so that no form begins as one before, of which the same key would find the beginning.
    first_word = form[::-1]
    prompt, other = f"{first_word} {PRIVATE}", f"{first_word} {OTHER}"
    async with engines.subject.client(KEY) as one, engines.subject.client(OTHER_KEY) as another:
        await cached(one, form, prompt)
        warm = await cached(one, form, prompt)
        await cached(another, form, "x")
        cold = await cached(another, form, f"z {other}")
        found = await cached(another, form, prompt)

    figures.tell(f"prefix cache, {form}", own_prompt=warm, other_keys_prompt=found, any_cold_prompt=cold)
    assert warm > len(PRIVATE) / 10
    assert found <= cold
