"""The keys of issuers: which are taken, how they rotate, what a failure does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.access.forge import AUDIENCE, ISSUER, NOW, Keys, b64, claims, token

from arriero.access.jwks import IssuerKeys, key_set
from arriero.access.jwt import Expected
from arriero.access.keyring import Keyring, Signer
from arriero.config.auth import IssuerConfig
from arriero.errors import Unauthorized
from arriero.testing.file_server import Answer, FileServer

KEYS, NEWER = Keys.new(), Keys.new()


def renamed(keys: Keys, kid: str) -> bytes:
    """A key set with one RSA key of this name."""
    key = keys.jwks()["keys"][3]
    return json.dumps({"keys": [{**key, "kid": kid}]}).encode()


def signed(keys: Keys, kid: str | None) -> str:
    header = {"alg": "RS256"} | ({} if kid is None else {"kid": kid})
    return token(header, claims(), keys.rs)


def keyring(retry_s: float = 0, **source: Any) -> Keyring:
    config = IssuerConfig(issuer=ISSUER, audience=AUDIENCE, algorithm="RS256", **source)
    signer = Signer(IssuerKeys(config, retry_s=retry_s), Expected(ISSUER, AUDIENCE))
    return Keyring(signers=(signer,), clock=lambda: NOW)


async def is_taken(ring: Keyring, text: str) -> bool:
    try:
        await ring.identified(text)
    except Unauthorized:
        return False
    return True


async def test_a_rotated_key_is_taken_with_the_first_token_that_names_it(tmp_path: Path) -> None:
    """The file is read again for a name that is not known; the old key is gone then."""
    file = tmp_path / "jwks.json"
    file.write_bytes(renamed(KEYS, "1"))
    ring = keyring(jwks_file=file)
    assert await is_taken(ring, signed(KEYS, "1"))
    assert not await is_taken(ring, signed(NEWER, "2"))

    file.write_bytes(renamed(NEWER, "2"))
    assert await is_taken(ring, signed(NEWER, "2"))
    assert not await is_taken(ring, signed(KEYS, "1"))


async def test_keys_are_fetched_and_kept_when_that_fails() -> None:
    """One request for many tokens; an answer that is no key set changes nothing."""
    with FileServer(renamed(KEYS, "1")) as server:
        ring = keyring(jwks_url=server.url("/jwks"))
        assert [await is_taken(ring, signed(KEYS, "1")) for _ in range(3)] == [True] * 3
        assert len(server.requests) == 1

        server.answers = [Answer(status=404), Answer(body=b"no"), Answer(body=b"x" * 300_000), Answer()]
        server.data = renamed(NEWER, "2")
        assert [await is_taken(ring, signed(NEWER, "2")) for _ in range(4)] == [False, False, False, True]
    assert not await is_taken(ring, signed(KEYS, "1"))
    assert await is_taken(ring, signed(NEWER, "2"))


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"keys": []}', b"[" * 100_000, b"x" * 300_000])
async def test_keys_that_cannot_be_read_again_stay(tmp_path: Path, content: bytes | None) -> None:
    """A broken or missing document ends nobody's access, and lets nobody in."""
    file = tmp_path / "jwks.json"
    file.write_bytes(renamed(KEYS, "1"))
    ring = keyring(jwks_file=file)
    assert await is_taken(ring, signed(KEYS, "1"))

    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert not await is_taken(ring, signed(NEWER, "2"))
    assert await is_taken(ring, signed(KEYS, "1"))


async def test_unknown_names_do_not_make_us_ask_all_the_time(tmp_path: Path) -> None:
    """Whoever invents names of keys causes one reading, not one for each token."""
    file = tmp_path / "jwks.json"
    file.write_bytes(renamed(KEYS, "1"))
    ring = keyring(retry_s=3600, jwks_file=file)
    assert await is_taken(ring, signed(KEYS, "1"))

    file.write_bytes(renamed(NEWER, "2"))
    assert not await is_taken(ring, signed(NEWER, "2"))
    assert await is_taken(ring, signed(KEYS, "1"))


async def test_who_comes_while_the_keys_are_read_waits_for_them(tmp_path: Path) -> None:
    """The first tokens after a start come together; all of them are taken, with one reading."""
    file = tmp_path / "jwks.json"
    file.write_bytes(renamed(KEYS, "1"))
    ring = keyring(retry_s=3600, jwks_file=file)

    assert await asyncio.gather(*(is_taken(ring, signed(KEYS, "1")) for _ in range(3))) == [True] * 3


@pytest.mark.parametrize(("size", "expected"), [(262_144, True), (262_145, False)])
async def test_a_document_has_a_bound(tmp_path: Path, size: int, expected: bool) -> None:
    """Read or fetched, one of 256 KiB is taken and one byte more is not, whatever it says."""
    document = renamed(KEYS, "1").ljust(size)
    (tmp_path / "jwks.json").write_bytes(document)
    with FileServer(document) as server:
        rings = keyring(jwks_file=tmp_path / "jwks.json"), keyring(jwks_url=server.url("/jwks"))

        assert [await is_taken(ring, signed(KEYS, "1")) for ring in rings] == [expected] * 2


@pytest.mark.parametrize(("place", "is_found"), [(63, True), (64, False)])
def test_a_document_has_at_most_64_keys(place: int, is_found: bool) -> None:
    """Those after them are not looked at."""
    keys = [None] * place + json.loads(renamed(KEYS, "1"))["keys"]
    document = json.dumps({"keys": keys}).encode()

    if is_found:
        assert [key.kid for key in key_set(document, "RS256")] == ["1"]
    else:
        with pytest.raises(ValueError, match="no usable key"):
            key_set(document, "RS256")


@pytest.mark.parametrize(("bits", "is_usable"), [(2047, False), (2048, True)])
def test_a_short_key_is_not_used(bits: int, is_usable: bool) -> None:
    """2048 bits is the least for RSA."""
    modulus = b64((2 ** (bits - 1) + 1).to_bytes(256, "big"))
    document = json.dumps({"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB"}]}).encode()

    if is_usable:
        assert len(key_set(document, "RS256")) == 1
    else:
        with pytest.raises(ValueError, match="no usable key"):
            key_set(document, "RS256")


async def test_a_pem_file_is_one_key_for_all_names(tmp_path: Path) -> None:
    """It has no name of its own."""
    file = tmp_path / "public.pem"
    file.write_bytes(KEYS.pem())
    ring = keyring(public_key_file=file)

    assert [await is_taken(ring, signed(KEYS, kid)) for kid in (None, "1", "x")] == [True, True, True]
    assert not await is_taken(ring, signed(NEWER, None))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"not json", "not a key set"),
        (b'{"keys": 1}', "not a key set"),
        (b'{"keys": []}', "no usable key for RS256"),
        (json.dumps({"keys": [Keys.new().jwks()["keys"][5]]}).encode(), "no usable key for RS256"),
        (b'{"keys": [{"kty": "RSA", "n": 1, "e": []}]}', "no usable key for RS256"),
        (b'{"keys": [{"kty": "RSA", "n": "%s", "e": "AQAB"}]}' % b64(b"\xff" * 64).encode(), "no usable key"),
        (b'{"keys": [{"kty": ["RSA"], "kid": {}}, 1, null]}', "no usable key for RS256"),
    ],
)
def test_a_document_without_a_usable_key_is_refused(document: bytes, message: str) -> None:
    """Keys of other kinds, short ones and broken ones are left out."""
    with pytest.raises(ValueError, match=message):
        key_set(document, "RS256")


def test_a_key_is_used_for_its_own_algorithm_only() -> None:
    """Of one set each algorithm finds its keys; those marked for another use or algorithm are left out."""
    document = json.dumps(KEYS.jwks()).encode()

    assert [key.kid for key in key_set(document, "RS256")] == ["rsa"]
    assert [key.kid for key in key_set(document, "ES256")] == ["ec"]
    assert [key.kid for key in key_set(document, "EdDSA")] == ["ed"]
    assert key_set(renamed(KEYS, "1").replace(b'"kty"', b'"alg": "RS256", "kty"'), "RS256")
    with pytest.raises(ValueError, match="no usable key"):
        key_set(renamed(KEYS, "1").replace(b'"kty"', b'"alg": "PS256", "kty"'), "RS256")
