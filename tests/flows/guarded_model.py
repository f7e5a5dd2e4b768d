"""A real model behind a guard, in processes of their own: `arriero serve` before `arriero serve`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.flows.process import KEY, Served, started

SECRET = "Secret-Model-7B"
UPSTREAM_KEY = "upstream-key"
PUBLIC = "pocket_network"

UPSTREAM = """
allowed_keys = ["{key}"]
[models.{name}]
model_path = "{weights}"
context_size = 1024
kv_cache_tokens = 2048
max_sequences = 2
threads_per_session = 1
"""

GUARD = """
allowed_keys = ["{key}"]
[models.{public}]
allow_logprobs = true
max_context = 1024
max_tokens = 64
[models.{public}.upstream]
urls = ["{url}"]
model = "{name}"
api_key = "{upstream_key}"
"""


@contextmanager
def guarded_model(weights: Path, folder: Path) -> Iterator[tuple[Served, Served]]:
    """Serve a model under its secret name, and a guard before it; gives the guard and the upstream."""
    upstream_config, guard_config = folder / "upstream.toml", folder / "guard.toml"
    upstream_config.write_text(UPSTREAM.format(key=UPSTREAM_KEY, name=SECRET, weights=weights))
    with started(upstream_config, {SECRET: weights}) as upstream:
        guard_config.write_text(
            GUARD.format(key=KEY, public=PUBLIC, url=upstream.url, name=SECRET, upstream_key=UPSTREAM_KEY)
        )
        with started(guard_config, {}) as guard:
            yield guard, upstream
