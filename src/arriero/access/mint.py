"""Makes JSON Web Tokens, signed with a shared secret or with a private key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from arriero.access.jwt import encoded
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.access.jwt import Claims


class Signing(Protocol):
    """What signs tokens."""

    @property
    def algorithm(self) -> str: ...

    def sign(self, signed: bytes) -> bytes: ...


def minted(claims: Claims, signing: Signing, *, kid: str | None = None) -> str:
    """Return a signed token."""
    header = {"alg": signing.algorithm, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    signed = f"{encoded(msgspec.json.encode(header))}.{encoded(msgspec.json.encode(claims))}"
    return f"{signed}.{encoded(signing.sign(signed.encode()))}"


class PrivateKey:
    """A private key in a PEM file: RSA signs RS256, P-256 signs ES256, Ed25519 signs EdDSA."""

    def __init__(self, path: Path) -> None:
        """Read the key. Raises ConfigError."""
        try:
            from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError as exc:
            raise ConfigError("signing needs the package cryptography; install arriero[jwt]") from exc
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as exc:
            raise ConfigError(f"{path}: not a private key without password (PEM): {exc}") from exc
        self._key = key
        match key:
            case rsa.RSAPrivateKey():
                self.algorithm = "RS256"
            case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
                self.algorithm = "ES256"
            case ed25519.Ed25519PrivateKey():
                self.algorithm = "EdDSA"
            case _:
                raise ConfigError(f"{path}: expected a key of RSA, P-256 or Ed25519")

    def sign(self, signed: bytes) -> bytes:
        """Return the signature of the first two parts of a token."""
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        match self._key:
            case rsa.RSAPrivateKey():
                return self._key.sign(signed, padding.PKCS1v15(), SHA256())
            case ec.EllipticCurvePrivateKey():
                r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(SHA256())))
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
            case Ed25519PrivateKey():
                return self._key.sign(signed)
        raise AssertionError(self.algorithm)
