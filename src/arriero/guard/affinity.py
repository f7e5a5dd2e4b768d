"""Which requests are best served by the same upstream: those whose prompts begin alike.

An upstream keeps what it has evaluated, so the turns of one conversation cost least where its first turn
was. Pure.
"""

from __future__ import annotations

import hashlib

import msgspec

from arriero.guard.routes import GENERATING, Route

_PROMPT_BYTES = 1024
_DIGEST_BYTES = 16
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class _Begun(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    role: str = ""


_BEGUN = msgspec.json.Decoder(_Begun)
_MESSAGE = msgspec.json.Decoder(_Message)


def affinity_of(route: Route, body: bytes) -> bytes | None:
    """Return a digest of how the prompt of a checked request begins; None where nothing is kept of it."""
    if route not in GENERATING:
        return None
    begun = _BEGUN.decode(body)
    match route:
        case Route.CHAT:
            begins = _first_turn(begun.messages)
        case Route.COMPLETIONS:
            begins = bytes(begun.prompt)[:_PROMPT_BYTES]
        case _:
            begins = bytes(begun.instructions)[:_PROMPT_BYTES] + _first_turn(begun.input)
    return hashlib.blake2b(begins, digest_size=_DIGEST_BYTES).digest()


def _first_turn(spelt: msgspec.Raw) -> bytes:
    """Return the messages up to the first of a user: all turns of a conversation share them."""
    if bytes(spelt)[:1] != b"[":
        return bytes(spelt)[:_PROMPT_BYTES]
    first: list[bytes] = []
    for message in _LIST.decode(spelt):
        first.append(bytes(message))
        if _role(message) == "user":
            break
    return b"".join(first)


def _role(message: msgspec.Raw) -> str:
    try:
        return _MESSAGE.decode(message).role
    except msgspec.DecodeError:
        return ""
