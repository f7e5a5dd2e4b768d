"""The model that a body names, read before its route is decided."""

from __future__ import annotations

from typing import Any

import msgspec


class _Named(msgspec.Struct):
    model: Any = None


_NAMED = msgspec.json.Decoder(_Named)


def model_name(body: bytes) -> str | None:
    """Return the model that a body names; None for a body that names none, which its reader will refuse."""
    try:
        name = _NAMED.decode(body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return name if isinstance(name, str) else None
