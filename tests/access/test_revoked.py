"""Tokens that are refused before their time, and those that would live too long."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.access.forge import NOW, SECRET, claims, hs, token

from arriero.access.jwt import Expected, InvalidToken, SharedSecret
from arriero.access.keyring import Keyring, Signer
from arriero.access.revoked import MAX_BYTES, RevokedTokens
from arriero.config.load import parse_config
from arriero.errors import ConfigError, Unauthorized


def text(**changes: Any) -> str:
    return token({"alg": "HS256"}, claims(**changes), hs(SECRET.encode()))


def keyring(*, revoked: RevokedTokens | None = None, max_lifetime_s: float | None = None) -> Keyring:
    signer = Signer(SharedSecret(SECRET), Expected(max_lifetime_s=max_lifetime_s))
    return Keyring(signers=(signer,), revoked=revoked, clock=lambda: NOW)


def is_taken(keyring: Keyring, secret: str) -> bool:
    try:
        keyring.identify(secret)
    except InvalidToken:
        return False
    return True


@pytest.mark.parametrize(
    ("iat", "exp", "expected"),
    [
        (NOW - 10, NOW + 590, True),
        (NOW - 10, NOW + 591, False),
        (NOW + 60, NOW + 660, True),
        (NOW + 61, NOW + 600, False),
        (NOW - 700, NOW - 100, False),
        (None, NOW + 10, False),
        (0, NOW + 10, False),
    ],
)
def test_a_token_may_not_live_longer(iat: int | None, exp: int, expected: bool) -> None:
    """From its making, which must be told and not lie ahead, to its end."""
    secret = text(iat=iat, exp=exp)

    assert is_taken(keyring(max_lifetime_s=600), secret) is expected
    assert is_taken(keyring(), secret) is (exp > NOW)


def test_a_revoked_token_is_refused_from_then_on(tmp_path: Path) -> None:
    """The file is read again when it has changed; who was let in before is not let in again."""
    file = tmp_path / "revoked.txt"
    file.write_text("# lost\n\n  a-1  \n")
    ring = keyring(revoked=RevokedTokens(file))
    bearer = ring.identify(text(jti="b-2"))
    assert not is_taken(ring, text(jti="a-1"))
    assert is_taken(ring, text())
    assert ring.renewed(bearer) == bearer

    (tmp_path / "new").write_text("a-1\nb-2\n")
    (tmp_path / "new").rename(file)

    assert not is_taken(ring, text(jti="b-2"))
    with pytest.raises(Unauthorized):
        ring.renewed(bearer)

    file.write_text("")
    assert is_taken(ring, text(jti="a-1"))


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["gone", "broken"])
def test_a_file_that_cannot_be_read_opens_nothing(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """What it said last holds, and the log says so once; as soon as it can be read, it is."""
    caplog.set_level(logging.WARNING, "arriero.access.revoked")
    file = tmp_path / "revoked.txt"
    file.write_text("a-1\n")
    revoked = RevokedTokens(file)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    assert [revoked.holds("a-1") for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1
    file.write_text("b-2, c\n")
    assert (revoked.holds("a-1"), revoked.holds("b-2, c"), revoked.holds(None)) == (False, True, False)


def test_a_server_does_not_begin_without_its_file(tmp_path: Path) -> None:
    """The error names the key and the file, before anything is loaded and when it is opened."""
    missing = tmp_path / "none.txt"
    with pytest.raises(ConfigError, match=r"jwt_revoked_file.*none\.txt"):
        RevokedTokens(missing)
    with pytest.raises(ConfigError, match=r"jwt_revoked_file: there is no file .*none\.txt"):
        parse_config(f'[auth]\njwt_revoked_file = "{missing}"\n', {})


@pytest.mark.parametrize(
    ("size", "start", "message"),
    [(MAX_BYTES, b"", None), (MAX_BYTES + 1, b"", "larger than 16777216 bytes"), (2, b"\xff", "not UTF-8")],
)
def test_a_file_has_a_bound_and_is_text(tmp_path: Path, size: int, start: bytes, message: str | None) -> None:
    """A file of the bound is read, one byte more is not, nor is one that is no text."""
    file = tmp_path / "revoked.txt"
    file.write_bytes(start)
    os.truncate(file, size)

    if message is None:
        assert not RevokedTokens(file).holds("a-1")
    else:
        with pytest.raises(ConfigError, match=message):
            RevokedTokens(file)


def test_the_configuration_reaches_the_keyring(tmp_path: Path) -> None:
    """Both keys hold for the shared secret."""
    file = tmp_path / "revoked.txt"
    file.write_text("a-1\n")
    keys = f'jwt_max_lifetime_s = 600\njwt_revoked_file = "{file}"'
    config = parse_config(f'[auth]\njwt_private_key = {{ symmetric = "{SECRET}" }}\n{keys}\n', {})
    ring = Keyring.from_config(config)
    now = int(time.time())

    assert is_taken(ring, text(iat=now, exp=now + 600))
    assert not is_taken(ring, text(iat=now, exp=now + 600, jti="a-1"))
    assert not is_taken(ring, text(iat=now, exp=now + 601))
