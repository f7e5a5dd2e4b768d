"""JSON Web Tokens: read strictly, and their claims checked. Pure. Signatures but HS256 are `jwks.py`'s.

1. The text: three parts of canonical base64url, within a bound.
2. The header: only members that change nothing; what would bring a key or change the rules is refused.
3. The claims: Poly's, and those of RFC 7519; JSON without duplicates; `exp` is a must.
Nothing here trusts a token: its signature is checked by whoever holds the key, before its claims are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec

from arriero.config.auth import Priority
from arriero.errors import Unauthorized

MAX_TOKEN_CHARS = 8192
HEADER_MEMBERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
"""`x5t` is a name for the key, as `kid`, and not used. `crit`, `jwk`, `jku`, `x5u` ... are refused."""
TYPES = ("jwt", "at+jwt", "application/at+jwt")
MAX_KID_CHARS = 256
LATEST = 2**53
Kind = TypeVar("Kind", bound=msgspec.Struct)
SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class Header(msgspec.Struct, frozen=True):
    """What is read of a token's header."""

    alg: str
    kid: str | None = None
    typ: str | None = None


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is read of a token's claims. In Poly's lists absent and null mean all names, empty means none."""

    exp: int | float
    nbf: int | float | None = None
    iat: int | float | None = None
    iss: str | None = None
    aud: str | list[str] | None = None
    sub: str | None = None
    jti: str | None = None
    tasks: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    memories: tuple[str, ...] | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is well formed; whether it is true is not known yet."""

    algorithm: str
    kid: str | None
    claims: Claims
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """What the claims of a token must be; None = not checked. max_lifetime_s: from its making to its end."""

    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = 60
    max_lifetime_s: float | None = None


class InvalidToken(Unauthorized):
    """The token is not to be taken. The message is the same for all reasons: they would help a forger."""

    def __init__(self) -> None:
        super().__init__("invalid JWT token")


def read_token(text: str) -> Token:
    """Return the parts of a token. Raises InvalidToken."""
    if len(text) > MAX_TOKEN_CHARS or not SHAPE.fullmatch(text):
        raise InvalidToken
    signed, _, signature = text.rpartition(".")
    header_part, claims_part = signed.split(".")
    header_members = _json_object(_decoded(header_part))
    if not header_members.keys() <= HEADER_MEMBERS:
        raise InvalidToken
    header = _converted(header_members, Header)
    if header.typ is not None and header.typ.lower() not in TYPES:
        raise InvalidToken
    if header.kid is not None and len(header.kid) > MAX_KID_CHARS:
        raise InvalidToken
    claims = _converted(_json_object(_decoded(claims_part)), Claims)
    return Token(header.alg, header.kid, claims, signed.encode(), _decoded(signature))


def check_claims(claims: Claims, expected: Expected, now: float) -> None:
    """Check the times, the issuer and the audience of a token. Raises InvalidToken."""
    times = [claims.exp, *(time for time in (claims.nbf, claims.iat) if time is not None)]
    if not all(0 <= time <= LATEST for time in times):
        raise InvalidToken
    if claims.exp < now - expected.leeway_s:
        raise InvalidToken
    if claims.nbf is not None and claims.nbf > now + expected.leeway_s:
        raise InvalidToken
    if expected.max_lifetime_s is not None and not _is_short(claims, expected, now):
        raise InvalidToken
    if expected.issuer is not None and claims.iss != expected.issuer:
        raise InvalidToken
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
    if expected.audience is not None and expected.audience not in audiences:
        raise InvalidToken


def _is_short(claims: Claims, expected: Expected, now: float) -> bool:
    """Say whether a token lives shortly; one that was made in the future would only seem to."""
    if claims.iat is None or expected.max_lifetime_s is None or claims.iat > now + expected.leeway_s:
        return False
    return claims.exp - claims.iat <= expected.max_lifetime_s


class SharedSecret:
    """The key of HS256 tokens."""

    algorithm = "HS256"

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode(errors="surrogateescape")

    def sign(self, signed: bytes) -> bytes:
        """Return the signature of the first two parts of a token."""
        return hmac.digest(self._secret, signed, hashlib.sha256)

    def verifies(self, token: Token) -> bool:
        """Say whether the token was signed with this secret."""
        return hmac.compare_digest(self.sign(token.signed), token.signature)


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(part: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as exc:
        raise InvalidToken from exc
    if encoded(data) != part:  # bits that are not used are not zero: a second spelling of the same bytes
        raise InvalidToken
    return data


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except (ValueError, RecursionError) as exc:
        raise InvalidToken from exc
    if not isinstance(value, dict):
        raise InvalidToken
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _converted(members: dict[str, Any], kind: type[Kind]) -> Kind:
    try:
        return msgspec.convert(members, kind)
    except (msgspec.ValidationError, OverflowError) as exc:
        raise InvalidToken from exc
