"""The public keys of an issuer: read from a file or fetched, kept, read again when they may have changed.

Touches `cryptography`, which the extra `jwt` brings. One algorithm for each issuer: keys of another kind are
left out, so that a token cannot choose how it is checked. A failed fetch leaves the keys as they were.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from arriero.errors import ConfigError

if TYPE_CHECKING:
    from arriero.access.jwt import Token
    from arriero.config.auth import Algorithm, IssuerConfig

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
MAX_KEYS = 64
MIN_RSA_BITS = 2048
FETCH_TIMEOUT_S = 5.0
TRUSTED_S = 600.0
RETRY_S = 10.0

Verify = Callable[[bytes, bytes], bool]
"""Says whether the first bytes are the signature of the second."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of an issuer. Without `kid` it stands for all names."""

    kid: str | None
    verifies: Verify


class IssuerKeys:
    """Owns the keys of one issuer.

    Keys are trusted for ten minutes, then read again by the next `refresh`; for a name that is not known they
    are read at once, but at most every `retry_s`.
    """

    def __init__(self, config: IssuerConfig, *, retry_s: float = RETRY_S) -> None:
        self.config = config
        self.algorithm: Algorithm = config.algorithm
        self._keys: Sequence[PublicKey] = ()
        self._retry_s = retry_s
        self._tried_at = self._read_at = -math.inf
        self._lock = asyncio.Lock()

    def verifies(self, token: Token) -> bool:
        """Say whether the token was signed with one of the keys that are known now."""
        return any(
            key.verifies(token.signature, token.signed) for key in self._keys if _is_named(key, token.kid)
        )

    def is_doubtful(self, token: Token) -> bool:
        """Say whether newer keys could change the answer of `verifies`, so that it is worth a `refresh`."""
        return self._is_due(token) or (self._lock.locked() and not self._knows(token))

    async def refresh(self, token: Token) -> None:
        """Read the keys again if they are in doubt; a failure is logged and changes nothing."""
        async with self._lock:
            if not self._is_due(token):
                return
            self._tried_at = monotonic()
            try:
                self._keys = await self._read()
            except Exception as exc:  # the outside world: whatever it does, the old keys stay
                logger.warning("the keys of the issuer %s cannot be read: %s", self.config.issuer, exc)
            else:
                self._read_at = monotonic()

    def _is_due(self, token: Token) -> bool:
        now = monotonic()
        is_old = now - self._read_at >= TRUSTED_S
        return (is_old or not self._knows(token)) and now - self._tried_at >= self._retry_s

    def _knows(self, token: Token) -> bool:
        return any(_is_named(key, token.kid) for key in self._keys)

    async def _read(self) -> Sequence[PublicKey]:
        if self.config.jwks_url is not None:
            return key_set(await _fetched(self.config.jwks_url), self.algorithm)
        return await asyncio.to_thread(keys_of_file, self.config)


def _is_named(key: PublicKey, kid: str | None) -> bool:
    return key.kid is None or kid is None or key.kid == kid


def keys_of_file(config: IssuerConfig) -> Sequence[PublicKey]:
    """Return the keys that an issuer's file holds. Raises OSError, ValueError."""
    path = config.public_key_file or config.jwks_file
    assert isinstance(path, Path)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is too large for keys")
    if config.jwks_file is not None:
        return key_set(data, config.algorithm)
    return [PublicKey(None, _verifier(_pem_key(data), config.algorithm))]


def key_set(data: bytes, algorithm: Algorithm) -> Sequence[PublicKey]:
    """Return the keys of a JWKS document that fit the algorithm. Raises ValueError when there is none."""
    try:
        entries = msgspec.json.decode(data, type=_KeySet).keys
    except msgspec.DecodeError as exc:
        raise ValueError(f"not a key set: {exc}") from exc
    keys = [key for entry in entries[:MAX_KEYS] if (key := _key_of(entry, algorithm)) is not None]
    if not keys:
        raise ValueError(f"the key set has no usable key for {algorithm}")
    return keys


class _KeySet(msgspec.Struct):
    keys: list[Any]


class _Jwk(msgspec.Struct):
    kty: str
    kid: str | None = None
    alg: str | None = None
    use: str | None = None
    crv: str | None = None
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


def _key_of(entry: object, algorithm: Algorithm) -> PublicKey | None:
    """Return the key of one entry; None when it is another kind of key, or a broken one."""
    try:
        jwk = msgspec.convert(entry, _Jwk)
        if jwk.alg not in (None, algorithm) or jwk.use not in (None, "sig"):
            return None
        return PublicKey(jwk.kid, _verifier(_public_key(jwk), algorithm))
    except ValueError:  # also msgspec's
        return None


def _public_key(jwk: _Jwk) -> object:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match jwk.kty, jwk.crv:
        case "RSA", _:
            return rsa.RSAPublicNumbers(_number(jwk.e), _number(jwk.n)).public_key()
        case "EC", "P-256":
            point = ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), ec.SECP256R1())
            return point.public_key()
        case "OKP", "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(jwk.x))
        case _:
            raise ValueError("a kind of key that is not used here")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _pem_key(data: bytes) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return load_pem_public_key(data)


def _verifier(key: object, algorithm: Algorithm) -> Verify:
    """Return how signatures of a key are checked. Raises ValueError for a key of another algorithm."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match algorithm, key:
        case "RS256", rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return _rs256(key)
        case "ES256", ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return _es256(key)
        case "EdDSA", ed25519.Ed25519PublicKey():
            return _eddsa(key)
        case _:
            raise ValueError(f"not a key for {algorithm}")


def _rs256(key: Any) -> Verify:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return _quietly(lambda signature, signed: key.verify(signature, signed, PKCS1v15(), SHA256()))


def _es256(key: Any) -> Verify:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    def verify(signature: bytes, signed: bytes) -> None:
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))

    checked = _quietly(verify)
    return lambda signature, signed: len(signature) == 64 and checked(signature, signed)


def _eddsa(key: Any) -> Verify:
    return _quietly(key.verify)


def _quietly(verify: Callable[[bytes, bytes], None]) -> Verify:
    from cryptography.exceptions import InvalidSignature

    def verifies(signature: bytes, signed: bytes) -> bool:
        try:
            verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return verifies


async def _fetched(url: str) -> bytes:
    """Fetch a key set. Raises whatever goes wrong."""
    import httpx2

    async with (
        asyncio.timeout(FETCH_TIMEOUT_S),
        httpx2.AsyncClient(timeout=FETCH_TIMEOUT_S) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        if response.status_code != 200:
            raise ValueError(f"{url} answered {response.status_code}")
        data = b""
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) > MAX_BYTES:
                raise ValueError(f"{url} answered more than {MAX_BYTES} bytes")
        return data


def require_cryptography() -> None:
    """Raise ConfigError when the extra that checks signatures is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as exc:
        raise ConfigError(
            "auth.issuers: signatures are checked by the package cryptography; install arriero[jwt]"
        ) from exc
