"""Tokens that are made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from arriero.access.jwt import Claims, SharedSecret, read_token
from arriero.access.mint import PrivateKey, minted
from arriero.errors import ConfigError


@pytest.mark.parametrize("kid", [None, "a"])
def test_a_token_names_its_key_if_that_has_a_name(kid: str | None) -> None:
    """What is made can be read."""
    token = read_token(minted(Claims(exp=1, sub="bob"), SharedSecret("s"), kid=kid))

    assert (token.algorithm, token.kid, token.claims) == ("HS256", kid, Claims(exp=1, sub="bob"))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The message names the file, and which kinds there are."""
    path = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(ConfigError, match=re.escape(f"{path}: expected a key of RSA, P-256 or Ed25519")):
        PrivateKey(path)
