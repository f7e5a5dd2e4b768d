"""Counts the tokens of a prompt with the model's own tokenizer, and only as exactly as is needed.

1. The bytes of a text bound its tokens. A caller says which number is small enough, and a bound that
   is not above it is the answer.
2. Otherwise the text is tokenized, in a thread that lets the event loop run, and the count is kept.

This is the file that touches `tokenizers`. Chat templates are rendered by a function that is handed in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from arriero.errors import ConfigError, Overloaded
from arriero.guard.countable import Conversation, Prompt, Texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Render = Callable[[Conversation], str]

MAX_WAITING = 64
"""Prompts that wait for the counting thread; one more is refused."""
MAX_COUNTS = 4096
"""Counts that are kept."""
MAX_FILE_BYTES = 64 * 1024 * 1024

_CUTS = (
    "BertPreTokenizer",
    "Digits",
    "Punctuation",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
)
_GROWTH = dict.fromkeys(_CUTS, 1.0) | {
    "NFC": 3,
    "NFD": 3,
    "NFKC": 11,
    "NFKD": 11,
    "Lowercase": 2,
    "BertNormalizer": 3,
    "Prepend": 2,
    "Strip": 1,
    "StripAccents": 1,
}
"""By how much the bytes of a text can grow in a step before tokenization; Unicode's own worst cases.
`Prepend` adds one character to each stretch between special tokens."""
_SPACE = "\u2581"


class TokenCounter:
    """Counts for one model. The tokenizer and the kept counts belong to its one thread.

    Close it when no one counts any more.
    """

    def __init__(self, tokenizer_json: str, render: Render) -> None:
        """Take the text of `tokenizer.json`; `from_directory` says what is wrong with one.

        render: a conversation to the prompt that the model gets; may raise InvalidRequest.
        """
        self._tokenizer = _loaded(tokenizer_json)
        self._render = render
        self._growth = bytes_growth(json.loads(tokenizer_json))
        self._added: int = self._tokenizer.num_special_tokens_to_add(False)
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="count-tokens")

    @classmethod
    def from_directory(cls, directory: Path, render: Render) -> TokenCounter:
        """Take `tokenizer.json` of a model directory. Raises ConfigError naming the file."""
        file = directory / "tokenizer.json"
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES // 2**20} MiB")
            return cls(file.read_text("utf-8"), render)
        except (OSError, ValueError, _Unusable) as exc:
            raise ConfigError(f"{file} cannot be used to count tokens: {exc}") from exc

    async def count(self, prompt: Prompt, *, enough: int = -1) -> int:
        """Return the tokens of the prompt (of its longest text); exactly, unless a bound is at most `enough`.

        Raises Overloaded when too many prompts wait, and what the renderer raises.
        """
        if isinstance(prompt, Texts) and (bound := self._bound(prompt)) <= enough:
            return int(bound)
        if not self._waiting.acquire(blocking=False):
            raise Overloaded("too many prompts wait to be counted")
        job = self._thread.submit(self._counted, prompt, enough)
        job.add_done_callback(lambda _: self._waiting.release())
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """End the thread after the count it is at; those that wait are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _counted(self, prompt: Prompt, enough: int) -> int:
        if isinstance(prompt, Conversation):
            prompt = Texts(texts=(self._render(prompt),), special=prompt.special)
            if (bound := self._bound(prompt)) <= enough:
                return int(bound)
        counts = (self._tokens(text, special=prompt.special) for text in prompt.texts)
        return max(counts, default=0) if not prompt.longest_tokens else prompt.longest_tokens

    def _bound(self, prompt: Texts) -> float:
        """Return a number of tokens that no text of the prompt can exceed."""
        if not prompt.texts:
            return prompt.longest_tokens
        longest = max(len(_utf8(text)) for text in prompt.texts)
        return longest * self._growth + (self._added if prompt.special else 0)

    def _tokens(self, text: str, *, special: bool) -> int:
        data = _utf8(text)
        digest = hashlib.blake2b(data, digest_size=16, salt=b"special" if special else b"").digest()
        if digest in self._counts:
            self._counts.move_to_end(digest)
            return self._counts[digest]
        # A batch, though of one, is tokenized without Python's lock; a single text would hold it.
        encoding = self._tokenizer.encode_batch_fast([data.decode("utf-8")], add_special_tokens=special)[0]
        self._counts[digest] = len(encoding)
        if len(self._counts) > MAX_COUNTS:
            self._counts.popitem(last=False)
        return len(encoding)


def bytes_growth(tokenizer: dict[str, Any]) -> float:
    """Return how many tokens one byte of text can become at most; infinity when that is not known.

    tokenizer: the object of `tokenizer.json`. A token has at least one byte of the text as it is
    after normalization, so only the growth in the steps before counts.
    """
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    steps = [*_steps(tokenizer.get("normalizer")), *_steps(tokenizer.get("pre_tokenizer"))]
    return math.prod(_growth(step, marks_spaces=_SPACE in vocabulary) for step in steps)


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step.get("type") != "Sequence":
        return [step]
    return [
        one for part in step.get("normalizers") or step.get("pretokenizers") or [] for one in _steps(part)
    ]


def _growth(step: dict[str, Any], *, marks_spaces: bool) -> float:
    match step:
        case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
            return 1 if marks_spaces else 3
        case {"type": "Metaspace"}:
            return 2 if marks_spaces else 6
        case {"type": "ByteLevel"}:
            return 2 if step.get("add_prefix_space") else 1
        case _:
            return _GROWTH.get(str(step.get("type")), math.inf)


def _utf8(text: str) -> bytes:
    """Return the bytes of a text; half of a surrogate pair, which JSON may hold, counts as one character."""
    return text.encode("utf-8", "replace")


def _loaded(tokenizer_json: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as exc:
        raise ConfigError(
            "counting tokens needs the package tokenizers; install arriero[tokenizer], or leave the"
            " counting to the upstream"
        ) from exc
    # Its pool of threads gains nothing with one text at a time, and complains when processes are started.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as exc:  # the package raises bare Exceptions
        raise _Unusable(str(exc)) from exc


class _Unusable(Exception):
    """What the package says of a tokenizer that it cannot use."""
