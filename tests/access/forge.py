"""Writes tokens, good and bad, with no code of the product: the matrix must not trust what it tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1_800_000_000
SECRET = "the shared secret of the tests, long enough"
ISSUER = "https://issuer.example"
AUDIENCE = "arriero"

Sign = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def hs(secret: bytes, kind: str = "sha256") -> Sign:
    return lambda signed: hmac.new(secret, signed, getattr(hashlib, kind)).digest()


@dataclass(frozen=True)
class Keys:
    """One private key of each kind."""

    rsa: rsa.RSAPrivateKey
    ec: ec.EllipticCurvePrivateKey
    ed: ed25519.Ed25519PrivateKey

    @classmethod
    def new(cls) -> Keys:
        return cls(
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP256R1()),
            ed25519.Ed25519PrivateKey.generate(),
        )

    def rs(self, signed: bytes) -> bytes:
        return self.rsa.sign(signed, padding.PKCS1v15(), SHA256())

    def rs512(self, signed: bytes) -> bytes:
        return self.rsa.sign(signed, padding.PKCS1v15(), SHA512())

    def ps(self, signed: bytes) -> bytes:
        return self.rsa.sign(signed, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())

    def es(self, signed: bytes) -> bytes:
        r, s = decode_dss_signature(self.es_der(signed))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def es_der(self, signed: bytes) -> bytes:
        return self.ec.sign(signed, ec.ECDSA(SHA256()))

    def es384(self, signed: bytes) -> bytes:
        r, s = decode_dss_signature(self.ec.sign(signed, ec.ECDSA(SHA384())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def eddsa(self, signed: bytes) -> bytes:
        return self.ed.sign(signed)

    def pem(self) -> bytes:
        return self.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def der(self) -> bytes:
        return self.rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def jwks(self) -> dict[str, Any]:
        """The public halves as a key set: `rsa`, `ec` and `ed`, and a few keys that must not be used."""
        numbers, point = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        raw = self.ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        ec_key = {"kty": "EC", "crv": "P-256", "x": b64(point.x.to_bytes(32, "big"))}
        return {
            "keys": [
                {"kty": "oct", "k": b64(b"x" * 32), "kid": "oct"},
                {"kty": "RSA", "n": number(3 * 5), "e": "AQAB", "kid": "broken"},
                {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), "use": "enc", "kid": "enc"},
                {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), "kid": "rsa", "use": "sig"},
                {**ec_key, "y": b64(point.y.to_bytes(32, "big")), "kid": "ec", "alg": "ES256"},
                {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), "kid": "ed"},
            ]
        }


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that all issuers of the tests may make; None takes a claim out."""
    made = {"exp": NOW + 600, "iss": ISSUER, "aud": AUDIENCE, "sub": "bob"} | changes
    return {name: value for name, value in made.items() if value is not None}


def token(
    header: dict[str, Any] | bytes,
    payload: dict[str, Any] | bytes,
    sign: Sign,
    *,
    signature: bytes | None = None,
) -> str:
    """A token with whatever header and payload, signed as told."""
    parts = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in (header, payload)]
    signed = ".".join(b64(part) for part in parts)
    return f"{signed}.{b64(sign(signed.encode()) if signature is None else signature)}"
