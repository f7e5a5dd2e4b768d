"""What must hold between the values of [auth], and what is probably not meant there. Reads no key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from arriero.config.auth import AuthConfig, IssuerConfig
from arriero.config.locate import KeyPath
from arriero.config.problem import Problem

MIN_SECRET_BYTES = 32
SOURCES = ("jwks_url", "jwks_file", "public_key_file")


def auth_faults(auth: AuthConfig) -> Iterator[Problem]:
    """Yield everything for which [auth] must be refused."""
    for key in ("key_store", "usage_store"):
        path = getattr(auth, key)
        if isinstance(path, Path) and not path.parent.is_dir():
            yield Problem(("auth", key), f"there is no directory {path.parent}")
    revoked = auth.jwt_revoked_file
    if revoked is not None and not revoked.is_file():
        yield Problem(("auth", "jwt_revoked_file"), f"there is no file {revoked}")
    if auth.issuers and find_spec("cryptography") is None:
        yield Problem(("auth", "issuers"), "signatures need the package cryptography; install arriero[jwt]")
    yield from _shared_counters(auth)
    for index, issuer in enumerate(auth.issuers):
        yield from _issuer(("auth", "issuers", index), issuer)


def _shared_counters(auth: AuthConfig) -> Iterator[Problem]:
    if auth.shared_counters is None:
        if auth.shared_counters_password is not None:
            yield Problem(("auth", "shared_counters_password"), "has no meaning without shared_counters")
        return
    path = ("auth", "shared_counters")
    if not _is_counter_address(auth.shared_counters):
        yield Problem(path, "expected an address such as redis://host:6379/0 or rediss://host:6380/0")
    elif auth.shared_counters_password is not None and urlsplit(auth.shared_counters).password:
        yield Problem(path, "holds a password already, beside shared_counters_password")
    if find_spec("redis") is None:
        yield Problem(path, "shared counters need the package redis; install arriero[redis]")


def _is_counter_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_numbered = re.fullmatch(r"/?|/[0-9]{1,5}", parts.path) is not None
    return is_usable and parts.scheme in ("redis", "rediss") and is_numbered and not parts.query


def _issuer(path: KeyPath, issuer: IssuerConfig) -> Iterator[Problem]:
    if sum(getattr(issuer, source) is not None for source in SOURCES) != 1:
        yield Problem(path, f"give exactly one of {', '.join(SOURCES)}")
    if issuer.jwks_url is not None and not _is_safe(issuer.jwks_url):
        message = "expected an https address; http would let others put their keys in (but on this machine)"
        yield Problem((*path, "jwks_url"), message)
    for key in SOURCES[1:]:
        file = getattr(issuer, key)
        if file is not None and not file.is_file():
            yield Problem((*path, key), f"there is no file {file}")


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_usable and (parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname)))


def _is_here(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def auth_warnings(auth: AuthConfig, *, is_loopback: bool) -> Iterator[Problem]:
    """Yield what [auth] allows, but should not without a reason."""
    if not (auth.public or auth.has_keys):
        yield Problem(
            (), "neither keys nor public = true: only /health, /readyz, /livez and /status will be served"
        )
    if auth.public and not is_loopback:
        yield Problem(("auth", "public"), "anyone who reaches the server may use it without a key")
    secret = auth.jwt_private_key and auth.jwt_private_key.symmetric
    if secret and len(secret.encode(errors="surrogateescape")) < MIN_SECRET_BYTES:
        message = f"a secret of less than {MIN_SECRET_BYTES} bytes can be guessed from one token"
        yield Problem(("auth", "jwt_private_key"), message)
