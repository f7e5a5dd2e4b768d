"""Texts as sparse vectors of their words, which a server with inverse document frequencies ranks by BM25.

Words are runs of letters and digits, without regard to case; scripts that put no blanks between words
(Chinese, Japanese, Korean, Thai) count by pairs of characters.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

K1 = 1.2
"""How soon another occurrence of a word counts for less."""
B = 0.75
"""How much long texts are held back."""
USUAL_LENGTH = 150.0
"""Words of an ordinary chunk; texts of this length are not held back."""
MOST_QUERY_WORDS = 256

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORDS = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|[^\W_{_UNSPACED}]+")


class SparseTerms(NamedTuple):
    """`values[i]` is the weight of the word with the number `indices[i]`."""

    indices: list[int]
    values: list[float]


def text_terms(text: str) -> SparseTerms:
    """Return the words of a stored text with their weights, but for their rarity."""
    counts = Counter(_words(text))
    held_back = K1 * (1 - B + B * sum(counts.values()) / USUAL_LENGTH)
    weights = {_number(word): n * (K1 + 1) / (n + held_back) for word, n in counts.items()}
    return SparseTerms(list(weights), list(weights.values()))


def query_terms(query: str) -> SparseTerms:
    """Return the words of a question, each with the same weight; at most the first 256."""
    numbers = dict.fromkeys(_number(word) for word in _words(query))
    indices = list(numbers)[:MOST_QUERY_WORDS]
    return SparseTerms(indices, [1.0] * len(indices))


def _words(text: str) -> Iterator[str]:
    for found in _WORDS.finditer(text.casefold()):
        word = found.group()
        if len(word) > 1 and found.lastgroup == "unspaced":
            yield from (word[i : i + 2] for i in range(len(word) - 1))
        else:
            yield word


def _number(word: str) -> int:
    return zlib.crc32(word.encode(errors="surrogatepass"))
