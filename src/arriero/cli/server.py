"""The server that a verb talks to: the options that say who asks and whom to trust, and a client of them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arriero.client import Client
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def access_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--api-key`, `--ca` and `--client-certificate`, the parameters of `client_of`."""
    file = click.Path(dir_okay=False, path_type=Path)
    options = (
        click.option(
            "--api-key", envvar="ARRIERO_API_KEY", help="Key for the server; better given as ARRIERO_API_KEY."
        ),
        click.option(
            "--ca", type=file, envvar="ARRIERO_CA", help="PEM file of roots to trust beside the usual ones."
        ),
        click.option(
            "--client-certificate",
            type=file,
            envvar="ARRIERO_CLIENT_CERTIFICATE",
            help="PEM file of a certificate and its key, for a server that asks for one.",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


def client_of(url: str, *, api_key: str | None, ca: Path | None, client_certificate: Path | None) -> Client:
    """Return a client of the server at `url`. Raises ConfigError when a file cannot be used."""
    return Client(url, api_key=api_key, tls=_context(ca, client_certificate))


def _context(ca: Path | None, certificate: Path | None) -> ssl.SSLContext | None:
    if ca is None and certificate is None:
        return None
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except OSError as exc:
            raise ConfigError(f"{ca}: no roots can be read from it: {exc.strerror}") from exc
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, password=lambda: "")
        except OSError as exc:
            raise ConfigError(f"{certificate}: no certificate with its key in it: {exc.strerror}") from exc
    return context
