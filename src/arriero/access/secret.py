"""API keys as texts: how they are made, what a typing error in one looks like, and their digests. Pure.

A key is `arriero_`, 40 random letters and digits (238 bits), and a checksum of 6. Only its SHA-256 is
kept: that many random bits cannot be guessed, so a slow hash would protect nothing and cost every request.
"""

from __future__ import annotations

import hashlib
import secrets
import string

PREFIX = "arriero_"
ALPHABET = string.digits + string.ascii_letters
RANDOM_LENGTH = 40
CHECKSUM_LENGTH = 6


def new_secret() -> str:
    """Return a key that nobody has."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return PREFIX + random + _checksum(random)


def is_mistyped(secret: str) -> bool:
    """Say whether the text begins as a key of ours, but is none that was ever made."""
    random, checksum = secret[len(PREFIX) : -CHECKSUM_LENGTH], secret[-CHECKSUM_LENGTH:]
    is_whole = len(random) == RANDOM_LENGTH and checksum == _checksum(random)
    return secret.startswith(PREFIX) and not is_whole


def digest_of(secret: str) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def _checksum(random: str) -> str:
    # A digest takes equally long for all texts, which the tables of a CRC do not. The addend changes none of
    # the digits, and makes the divisions take equally long.
    digest = hashlib.sha256(random.encode(errors="surrogateescape")).digest()
    value, text = int.from_bytes(digest[:4], "big") + len(ALPHABET) ** CHECKSUM_LENGTH, ""
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        text += ALPHABET[digit]
    return text
