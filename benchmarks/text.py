"""The texts that are sent: common words, each about one token, drawn by a seed.

The same seed gives every server the same text; a new seed gives one that no cache has seen.
"""

from __future__ import annotations

import random

_WORDS = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point "
    "home water room mother area money story fact month lot right study book eye job word business issue "
    "side kind head house service friend father power hour game line end member law car city community name"
)
WORDS = _WORDS.split()

DECODE_PROMPT = "Once upon a time"


def words(count: int, *seed: object) -> str:
    """Return `count` words in the order that the seed gives."""
    draw = random.Random(" ".join(map(str, seed)))
    return " ".join(draw.choices(WORDS, k=count))


def prelude_prompts(sessions: int, *, prelude_words: int, prelude: object, users: object) -> list[str]:
    """Return one prompt per session: the shared prelude of the seed `prelude`, then its own user part."""
    shared = words(prelude_words, "prelude", prelude)
    return [f"{shared}\nUser: {words(12, 'user', users, i)}\nAnswer:" for i in range(sessions)]
