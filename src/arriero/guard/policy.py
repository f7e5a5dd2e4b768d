"""What an operator allows callers of one remote model: names, limits, and what happens over a limit.

Plain values; the configuration that they come from is not known here.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class OverLimit(str, Enum):
    """What happens to a request that asks for more tokens than it may have."""

    CROP = "crop"
    REJECT = "reject"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one remote model. `None` in a limit means that there is none."""

    public_name: str
    upstream_name: str
    any_model: bool = False
    """Accept every value of `model`, also none that is a name; for a sidecar with one model."""
    secrets: tuple[str, ...] = ()
    """What else no answer may tell: hosts, addresses, other names of the model."""
    allow_logprobs: bool = False
    allow_tokenize: bool = False
    over_limit: OverLimit = OverLimit.CROP
    max_tokens: int | None = None
    """Tokens of one completion."""
    max_context: int | None = None
    """Tokens of a prompt and its completion together."""
    template_tokens: int = 512
    """What a chat template adds at most to the text of plain messages."""
    max_logprobs: int = 20
    max_n: int = 4
    max_best_of: int = 4
    max_prompts: int = 128
    max_inputs: int | None = 2048
    max_documents: int | None = 1000
    max_body_bytes: int = 10 << 20
    extra_members: frozenset[str] = frozenset()
    """Top-level members of requests that pass although this guard does not know them."""
