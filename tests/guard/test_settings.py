"""From the keys of a remote model to the rules of its guard."""

from __future__ import annotations

import pytest

from arriero.config.load import parse_config
from arriero.guard.policy import OverLimit, Policy
from arriero.guard.settings import policy_of


def policy(keys: str = "", url: str = "http://vllm:8000", upstream_keys: str = "") -> Policy:
    """Return the policy of a model."""
    text = (
        f"[auth]\npublic = true\n[models.m]\n{keys}\n"
        f'[models.m.upstream]\nurls = ["{url}"]\nmodel = "org/real"\n{upstream_keys}'
    )
    config = parse_config(text, {"KEY": "sk-1234"})
    return policy_of("m", config.remote_models["m"], max_body_bytes=1000)


def test_defaults() -> None:
    """Without keys the public name is the table's, and what is dangerous is off."""
    assert policy() == Policy(
        public_name="m",
        upstream_name="org/real",
        secrets=("vllm:8000",),
        max_n=4,
        max_prompts=32,
        max_inputs=2048,
        max_documents=1000,
        max_body_bytes=1000,
    )


def test_keys() -> None:
    """Each key of the guard has its place in the policy."""
    keys = """
        public_name = "pub"
        catch_all = true
        allow_logprobs = true
        routes = ["/v1/completions", "/tokenize"]
        max_tokens = 10
        max_context = 20
        over_limit = "reject"
        max_n = 2
        max_prompts = 3
        max_embedding_inputs = 5
        max_rerank_documents = 6
        max_body_bytes = 7
    """
    assert policy(keys, upstream_keys='api_key_env = "KEY"') == Policy(
        public_name="pub",
        upstream_name="org/real",
        any_model=True,
        secrets=("sk-1234", "vllm:8000"),
        allow_logprobs=True,
        allow_tokenize=True,
        over_limit=OverLimit.REJECT,
        max_tokens=10,
        max_context=20,
        max_n=2,
        max_prompts=3,
        max_inputs=5,
        max_documents=6,
        max_body_bytes=7,
    )


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("http://vllm:8000", ("vllm:8000",)),
        ("http://10.1.2.3:8000", ("10.1.2.3", "10.1.2.3:8000")),
        ("https://llm.internal", ("llm.internal", "llm.internal:443")),
        ("http://backend:80", ("backend", "backend:80")),
    ],
)
def test_secrets(url: str, secrets: tuple[str, ...]) -> None:
    """Hosts are not told; a short word only with its port, since it could be any word."""
    assert policy(url=url).secrets == secrets
