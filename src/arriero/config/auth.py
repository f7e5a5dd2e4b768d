"""The table [auth]: who may call, how tokens are checked, and what each key may use.

Values here are decoded and checked; secrets are resolved by `secrets.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from arriero.config.table import Count, Table, Text

Algorithm = Literal["RS256", "ES256", "EdDSA"]
Priority = Literal["low", "normal", "high"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
DEFAULT_PRIORITY: Priority = "normal"


class JwtKey(Table, frozen=True):
    """auth.jwt_private_key: the shared secret of HS256 tokens; one of the three."""

    symmetric: Annotated[Text | None, Meta(description="The secret itself.")] = None
    symmetric_env: Annotated[Text | None, Meta(description="Environment variable that holds the secret.")] = (
        None
    )
    symmetric_file: Annotated[Path | None, Meta(description="File that holds the secret.")] = None
    issuer: Annotated[Text | None, Meta(description="What `iss` must be. Absent = not checked.")] = None
    audience: Annotated[Text | None, Meta(description="What `aud` must hold. Absent = not checked.")] = None


class IssuerConfig(Table, frozen=True):
    """An entry of auth.issuers: whose signed tokens are taken; exactly one of the last three keys."""

    issuer: Annotated[Text, Meta(description="What `iss` must be.")]
    audience: Annotated[Text, Meta(description="What `aud` must hold.")]
    algorithm: Annotated[Algorithm, Meta(description="The one algorithm of its signatures.")]
    jwks_url: Annotated[Text | None, Meta(description="Address of its key set (JWKS).")] = None
    jwks_file: Annotated[Path | None, Meta(description="File with its key set (JWKS).")] = None
    public_key_file: Annotated[Path | None, Meta(description="File with its one public key (PEM).")] = None


class KeyLimits(Table, frozen=True):
    """auth.key_limits: what one key may use; absent = no limit."""

    requests_per_minute: Annotated[Count | None, Meta(description="Requests a minute.")] = None
    tokens_per_minute: Annotated[
        Count | None, Meta(description="Tokens a minute, of prompts and completions.")
    ] = None
    concurrent_requests: Annotated[Count | None, Meta(description="Requests at a time.")] = None
    tokens_per_day: Annotated[Count | None, Meta(description="Tokens a day (UTC).")] = None
    priority: Annotated[
        Priority | None, Meta(description="Who goes first where requests wait. Absent = normal.")
    ] = None

    @property
    def is_limiting(self) -> bool:
        """Whether there is any limit; a priority is none."""
        return msgspec.structs.replace(self, priority=None) != _NO_LIMITS

    def over(self, default: KeyLimits) -> KeyLimits:
        """Return what holds for a key with these: they replace all others, but a priority alone none."""
        base = default if self.priority is not None and not self.is_limiting else self
        return base.prioritized(self.priority or default.priority)

    def prioritized(self, priority: Priority | None) -> KeyLimits:
        """Return these limits with a priority, if one is given."""
        return self if priority is None else msgspec.structs.replace(self, priority=priority)


_NO_LIMITS = KeyLimits()


class AuthConfig(Table, frozen=True):
    """[auth]: who may call."""

    public: Annotated[bool, Meta(description="Serve requests that carry no key.")] = False
    allowed_keys: Annotated[tuple[Text, ...], Meta(description="API keys with full access.")] = ()
    allowed_keys_env: Annotated[
        Text | None, Meta(description="Environment variable with more keys, separated by blanks.")
    ] = None
    allowed_keys_file: Annotated[Path | None, Meta(description="File with more keys, one a line.")] = None
    key_store: Annotated[
        Path | None, Meta(description="SQLite file of the keys that `arriero keys` makes.")
    ] = None
    jwt_private_key: Annotated[
        JwtKey | None, Meta(description="Accept JSON Web Tokens signed with this secret (HS256).")
    ] = None
    issuers: Annotated[
        tuple[IssuerConfig, ...], Meta(description="Accept JSON Web Tokens signed by these.")
    ] = ()
    jwt_leeway_s: Annotated[
        Annotated[int, Meta(ge=0, le=300)],
        Meta(description="Seconds by which clocks may differ when a token's times are checked."),
    ] = 60
    jwt_max_lifetime_s: Annotated[
        Count | None, Meta(description="Most seconds from a token's `iat` to its `exp`. Absent = any.")
    ] = None
    jwt_revoked_file: Annotated[
        Path | None, Meta(description="File with the `jti` of revoked tokens, one a line; watched.")
    ] = None
    key_limits: Annotated[
        KeyLimits, Meta(description="What each key may use, unless the key store says otherwise.")
    ] = msgspec.field(default_factory=KeyLimits)
    usage_store: Annotated[
        Path | None, Meta(description="SQLite file that keeps the counts of `key_limits` over a restart.")
    ] = None
    shared_counters: Annotated[
        Text | None,
        Meta(description="Redis or Valkey that holds the counts of several servers: redis:// or rediss://."),
    ] = None
    shared_counters_password: Annotated[Text | None, Meta(description="Its password.")] = None
    shared_counters_password_env: Annotated[
        Text | None, Meta(description="Environment variable that holds its password.")
    ] = None
    shared_counters_password_file: Annotated[
        Path | None, Meta(description="File that holds its password.")
    ] = None

    @property
    def has_keys(self) -> bool:
        """Whether there is any way to bear a key or a token."""
        return bool(self.allowed_keys or self.key_store or self.jwt_private_key or self.issuers)
