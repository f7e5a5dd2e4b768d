"""Text as words for a search: what is looked up, and what stands for words where a script has no blanks.

Pure. In Chinese, Japanese, Korean, Thai and their neighbours each character begins a gram of two
characters, the last one stands alone; so any one or two characters can be found by one gram.
"""

from __future__ import annotations

import re

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_WORD = re.compile(r"[^\W_]+")

_STOP_WORDS = (
    "a about an and are as at be but by can did do does for from had has have how i if in into is it its me"
    " my of on or our so such than that the their them then there these they this to was we were what when"
    " where which who why will with would you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_MAX_SCANNED = 20_000
"""Characters of a query that are read."""


def grams(text: str) -> str:
    """Return the grams of a text, or nothing where words stand apart."""
    return " ".join(gram for run in _RUN.findall(text) for gram in _pairs(run))


def terms(query: str) -> list[str]:
    """Return the distinct terms of any text as FTS5 reads them, stop words only if there is nothing else."""
    text = query[:_MAX_SCANNED]
    words = [word.lower() for word in _WORD.findall(_RUN.sub(" ", text))]
    telling = [word for word in words if word not in STOP_WORDS] or words
    runs = [term for run in _RUN.findall(text) for term in _looked_up(run)]
    return list(dict.fromkeys([f'"{word}"' for word in telling] + runs))


def _pairs(run: str) -> list[str]:
    return [run[index : index + 2] for index in range(len(run))]


def _looked_up(run: str) -> list[str]:
    if len(run) == 1:
        return [f'"{run}" *']
    return [f'"{gram}"' for gram in _pairs(run)[:-1]]
