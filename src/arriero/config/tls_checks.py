"""Makes of [server.tls] what the library of TLS serves with, or says which of its keys cannot be used.

Whoever serves calls the same function as whoever checks, so what is checked is what will be served.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec

from arriero.config.problem import Problem
from arriero.config.tls import TlsConfig
from arriero.errors import ConfigError

PROTOCOLS = ["http/1.1"]
STRANGERS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
"""How the library says that a key belongs to another certificate."""


class TlsFault(ConfigError):
    """A key of [server.tls] that cannot be used, and why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"server.tls.{key}: {reason}")
        self.key = key
        self.reason = reason


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """Return what connections are served with; reads the files. Raises TlsFault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(PROTOCOLS)
    _load_pair(context, tls)
    if tls.client_ca is not None:
        _load_roots(context, "client_ca", tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tls_faults(tls: TlsConfig | None) -> Iterator[Problem]:
    """Yield that for which [server.tls] must be refused."""
    if tls is None:
        return
    try:
        server_context(tls)
    except TlsFault as fault:
        yield Problem(("server", "tls", fault.key), fault.reason)


def tls_warnings(tls: TlsConfig | None) -> Iterator[Problem]:
    """Yield what clients will not like about a certificate that can be served."""
    if tls is not None and (doubt := _doubt(tls)) is not None:
        yield Problem(("server", "tls", "certificate"), f"clients will refuse it: {doubt}")


def _load_pair(context: ssl.SSLContext, tls: TlsConfig) -> None:
    for key, file in (("certificate", tls.certificate), ("key", tls.key)):
        _check_readable(key, file)
    is_encrypted = False

    def password() -> str:  # without it the library would ask on the terminal
        nonlocal is_encrypted
        is_encrypted = True
        return tls.key_password or ""

    try:
        context.load_cert_chain(tls.certificate, tls.key, password)
    except (OSError, ValueError) as exc:
        raise _pair_fault(tls, exc, is_encrypted=is_encrypted) from exc


def _pair_fault(tls: TlsConfig, cause: Exception, *, is_encrypted: bool) -> TlsFault:
    if is_encrypted and tls.key_password is None:
        return TlsFault("key", "it is encrypted; give its password with key_password_env or _file")
    if is_encrypted:
        return TlsFault("key_password", f"it does not open {tls.key}")
    reason = getattr(cause, "reason", None)
    if reason in STRANGERS:
        return TlsFault("key", f"{tls.key} is not the key of {tls.certificate}")
    _load_roots(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "certificate", tls.certificate)
    if reason is not None:  # such as EE_KEY_TOO_SMALL
        return TlsFault("certificate", f"it cannot be used: {reason.replace('_', ' ').lower()}")
    return TlsFault("key", f"{tls.key} holds no private key in PEM form")


def _load_roots(context: ssl.SSLContext, key: str, file: Path) -> None:
    _check_readable(key, file)
    try:
        context.load_verify_locations(file)
    except OSError as exc:
        raise TlsFault(key, f"{file} holds no certificate in PEM form") from exc


def _check_readable(key: str, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as exc:
        raise TlsFault(key, f"{file} cannot be read: {exc.strerror}") from exc


def _doubt(tls: TlsConfig) -> str | None:
    """Return why a client that trusts the certificate refuses it all the same: it has expired, mostly."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        _load_roots(client, "certificate", tls.certificate)
        _shake_hands(client, server_context(msgspec.structs.replace(tls, client_ca=None)))
    except ssl.SSLCertVerificationError as exc:
        return exc.verify_message
    except ssl.SSLError as exc:
        return exc.reason
    except TlsFault as fault:
        return fault.reason
    return None


def _shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    """Let a client and a server meet in memory. Raises ssl.SSLError."""
    asked, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(answered, asked)
    server = server_context.wrap_bio(asked, answered, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
