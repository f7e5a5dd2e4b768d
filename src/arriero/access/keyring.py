"""All that opens the server, and who bears it: keys of the configuration, keys of the store, tokens.

`identify` decides with what is known now; `identified` first reads an issuer's newer keys where these could
change the answer. Refusals are in Poly's words. Holds digests only.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arriero.access.jwks import IssuerKeys, require_cryptography
from arriero.access.jwt import Expected, InvalidToken, SharedSecret, Token, check_claims, read_token
from arriero.access.key_store import KeyStore
from arriero.access.principal import EVERYTHING, Grants, Principal, Source, needs_of
from arriero.access.revoked import RevokedTokens
from arriero.access.secret import digest_of, is_mistyped
from arriero.config.auth import KeyLimits
from arriero.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from arriero.access.key_store import StoredKey
    from arriero.access.principal import Needs
    from arriero.config.auth import AuthConfig
    from arriero.config.schema import Config

NO_TOKEN = "no auth token provided and not a public server"
BAD_TOKEN = "no acceptable auth token provided"
MISTYPED = "the API key is mistyped or cut off"
TENANT_CHARS = 32


@dataclass(frozen=True, slots=True)
class Signer:
    """Who may sign tokens: the keys, and what the claims must be then."""

    keys: SharedSecret | IssuerKeys
    expected: Expected


class Keyring:
    """Says who is asking. Owns the connection to the key store."""

    def __init__(
        self,
        keys: Iterable[str] = (),
        *,
        public: bool = False,
        signers: tuple[Signer, ...] = (),
        store: KeyStore | None = None,
        limits: KeyLimits | None = None,
        needs: Needs | None = None,
        revoked: RevokedTokens | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._digests = tuple(digest_of(key) for key in keys)
        self._public = public
        self._signers = signers
        self._store = store
        self._limits = limits or KeyLimits()
        self._needs = needs or {}
        self._revoked = revoked
        self._clock = clock

    @classmethod
    def from_config(cls, config: Config) -> Keyring:
        """Return the keyring of a configuration. Raises ConfigError when its key store cannot be used."""
        auth = config.auth
        return cls(
            auth.allowed_keys,
            public=auth.public,
            signers=tuple(_signers(auth)),
            store=None if auth.key_store is None else KeyStore(auth.key_store),
            limits=auth.key_limits,
            needs=needs_of(config),
            revoked=None if auth.jwt_revoked_file is None else RevokedTokens(auth.jwt_revoked_file),
        )

    @property
    def store(self) -> KeyStore | None:
        """Where keys are made and revoked, if there is such a place."""
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether nobody has a key: such a public server ignores what it is sent."""
        return self._public and not (self._digests or self._signers or self._store)

    def close(self) -> None:
        """Let go of the key store."""
        if self._store is not None:
            self._store.close()

    async def identified(self, secret: str | None) -> Principal:
        """Like `identify`, with newer keys of the token's issuer where they could matter."""
        if secret is not None and (token := self._token(secret)) is not None:
            for signer in self._signers_of(token):
                if isinstance(signer.keys, IssuerKeys) and signer.keys.is_doubtful(token):
                    await signer.keys.refresh(token)
        return self.identify(secret)

    def identify(self, secret: str | None) -> Principal:
        """Return who bears the key or token; None = no key. Raises Unauthorized, Unavailable.

        Where nobody has a key there is no wrong one: a public server with none takes everybody.
        """
        if self.is_open or (secret is None and self._public):
            return self._nobody()
        if secret is None:
            raise Unauthorized(NO_TOKEN)
        digest = digest_of(secret)
        if (principal := self._bearer(digest)) is not None:
            return principal
        if is_mistyped(secret):
            raise Unauthorized(MISTYPED)
        if not self._signers:
            raise Unauthorized(BAD_TOKEN)
        return self._from_token(read_token(secret), digest)

    def renewed(self, principal: Principal) -> Principal:
        """Return the principal as it stands now, for what lasts longer than one request.

        Raises Unauthorized when its key or token is worth nothing any more, Unavailable.
        """
        match principal.source:
            case Source.NOBODY if self._public:
                return self._nobody()
            case Source.CONFIG | Source.STORE if bearer := self._bearer(principal.digest):
                return bearer
            case Source.TOKEN if self._signers and self._is_valid(principal):
                limits = self._limits.prioritized(principal.claimed_priority)
                return replace(principal, needs=self._needs, limits=limits)
        raise Unauthorized(BAD_TOKEN)

    def _is_valid(self, principal: Principal) -> bool:
        """Say whether a token that was taken once still would be."""
        return self._clock() < (principal.expires_at or 0) and not self._is_revoked(principal.jti)

    def _is_revoked(self, jti: str | None) -> bool:
        return self._revoked is not None and self._revoked.holds(jti)

    def _nobody(self) -> Principal:
        return Principal(grants=EVERYTHING, needs=self._needs, limits=self._limits)

    def _bearer(self, digest: bytes) -> Principal | None:
        """Return who bears a key of the configuration or of the store."""
        if self._holds(digest):
            tenant = digest.hex()[:TENANT_CHARS]
            return Principal(tenant, tenant[:8], Source.CONFIG, EVERYTHING, self._needs, self._limits, digest)
        key = None if self._store is None else self._store.find(digest, self._clock())
        return None if key is None else self._of_store(key, digest)

    def _holds(self, digest: bytes) -> bool:
        # All keys are compared, so that the time says nothing about which one matched.
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0

    def _of_store(self, key: StoredKey, digest: bytes) -> Principal:
        limits = self._limits if key.limits is None else key.limits.over(self._limits)
        tenant = _tenant("key", key.id)
        return Principal(
            tenant, key.id, Source.STORE, key.grants, self._needs, limits, digest, key.expires_at
        )

    def _token(self, secret: str) -> Token | None:
        try:
            return read_token(secret) if self._signers else None
        except InvalidToken:
            return None

    def _signers_of(self, token: Token) -> list[Signer]:
        return [
            signer
            for signer in self._signers
            if signer.keys.algorithm == token.algorithm and signer.expected.issuer in (None, token.claims.iss)
        ]

    def _from_token(self, token: Token, digest: bytes) -> Principal:
        signers = [signer for signer in self._signers_of(token) if signer.keys.verifies(token)]
        if not signers:
            raise InvalidToken
        expected, claims = signers[0].expected, token.claims
        check_claims(claims, expected, self._clock())
        if self._is_revoked(claims.jti):
            raise InvalidToken
        grants = Grants(models=claims.models, tasks=claims.tasks, memories=claims.memories)
        # Without a subject each token stands for itself.
        who = (claims.iss or "", claims.sub) if claims.sub else (digest.hex(),)
        return Principal(
            _tenant("token", *who),
            claims.sub or "",
            Source.TOKEN,
            grants,
            self._needs,
            self._limits.prioritized(claims.priority),
            digest,
            claims.exp + expected.leeway_s,
            claims.priority,
            claims.jti,
        )


def _tenant(*words: str) -> str:
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    text = "".join(f"{len(word)}:{word}" for word in words)
    return hashlib.sha256(text.encode()).hexdigest()[:TENANT_CHARS]


def _signers(auth: AuthConfig) -> Iterable[Signer]:
    shared = auth.jwt_private_key
    bounds = auth.jwt_leeway_s, auth.jwt_max_lifetime_s
    if shared is not None and shared.symmetric is not None:
        yield Signer(SharedSecret(shared.symmetric), Expected(shared.issuer, shared.audience, *bounds))
    if auth.issuers:
        require_cryptography()
    for issuer in auth.issuers:
        yield Signer(IssuerKeys(issuer), Expected(issuer.issuer, issuer.audience, *bounds))
