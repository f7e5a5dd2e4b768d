"""What an answer may call things: the public name in place of the upstream's, nothing of its hosts.

Owns the words that no answer may tell. Generated text never comes here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from arriero.guard.policy import Policy

_ELSEWHERE = "[upstream]"
_MAX_MESSAGE = 2000
_SHORTEST_BASENAME = 6
_SHORTEST_PART = 6
PLAIN_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
# Addresses and files, which an upstream's error texts name and no configuration can list.
_PLACES = re.compile(
    r"""
      [a-z][a-z0-9+.-]{1,15}://[^\s"'<>]+                   # a URL
    | (?<![\w/.])/(?:[\w.@+~-]+/)+[\w.@+~-]*                # an absolute path of two parts or more
    | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b              # IPv4
    | \[[0-9a-f:.]*:[0-9a-f:.]*\](?::\d{1,5})?              # IPv6 in brackets
    | \b(?:[a-z0-9_-]+\.)+[a-z0-9_-]+:\d{1,5}\b             # a host with dots and a port
    | \blocalhost(?::\d{1,5})?\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Names:
    """Cleans metadata of one upstream's answers. Immutable."""

    __slots__ = ("_found", "_id_needles", "_needles", "_public", "model", "public", "untold")

    def __init__(self, policy: Policy) -> None:
        self.public = policy.public_name
        self.model = msgspec.Raw(msgspec.json.encode(policy.public_name))
        models = {policy.upstream_name, *_basename(policy.upstream_name)} - {""}
        words = sorted({*models, *filter(None, policy.secrets)} - {policy.public_name}, key=len, reverse=True)
        self.untold = tuple(words)
        self._public = {word.lower() for word in models}
        self._needles = tuple(word.lower().encode() for word in words)
        self._id_needles = tuple(needle for needle in self._needles if PLAIN_ID.fullmatch(needle))
        self._found = re.compile("|".join(map(_pattern, words)) or r"(?!)", re.IGNORECASE)

    def clean_text(self, text: str) -> str:
        """Replace every name and host that must not be told."""
        return self._found.sub(self._replacement, text)

    def clean_message(self, text: str) -> str:
        """Clean an error text, which may also hold addresses and paths; at most 2,000 characters."""
        return _PLACES.sub(_ELSEWHERE, self.clean_text(text))[:_MAX_MESSAGE]

    def clean(self, raw: msgspec.Raw) -> msgspec.Raw:
        """Clean every text and key inside a JSON value; a clean one stays as it is spelt."""
        spelt = bytes(raw)
        if spelt[0] not in b'"[{' or self.is_surely_clean(spelt):
            return raw
        value = msgspec.json.decode(spelt)
        cleaned = self._clean_value(value)
        return raw if cleaned == value else msgspec.Raw(msgspec.json.encode(cleaned))

    def is_surely_clean(self, spelt: bytes) -> bool:
        """Say, without reading it, whether `clean` would keep a JSON value as it is."""
        if b"\\" in spelt or not spelt.isascii():  # what is escaped, or folds its case elsewhere
            return False
        lowered = spelt.lower()
        for needle in self._needles:  # noqa: SIM110 - any() costs more than the whole search
            if needle in lowered:
                return False
        return True

    def is_clean_id(self, plain_id: bytes) -> bool:
        """Say whether `clean` would keep an id, which is a `PLAIN_ID`: few words can be a part of one."""
        lowered = plain_id.lower()
        for needle in self._id_needles:  # noqa: SIM110 - any() costs more than the whole search
            if needle in lowered:
                return False
        return True

    def _clean_value(self, value: Any) -> Any:
        match value:
            case str():
                return self.clean_text(value)
            case list():
                return [self._clean_value(item) for item in value]
            case dict():
                return {self.clean_text(name): self._clean_value(item) for name, item in value.items()}
            case _:
                return value

    def _replacement(self, found: re.Match[str]) -> str:
        return self.public if found[0].lower() in self._public else _ELSEWHERE


def _pattern(word: str) -> str:
    # A short name could be a part of any word, and is looked for as a whole one.
    escaped = re.escape(word)
    return escaped if len(word) >= _SHORTEST_PART else rf"(?<![^\W_]){escaped}(?![^\W_])"


def _basename(name: str) -> set[str]:
    # "org/Model-8B" is also told as "Model-8B"; a plain word could be any text's.
    last = name.rstrip("/").rpartition("/")[2]
    telling = len(last) >= _SHORTEST_BASENAME and not last.isalpha()
    return {last} if telling else set()
