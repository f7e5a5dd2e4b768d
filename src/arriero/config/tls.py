"""The table [server.tls]: the files with which the server itself speaks TLS.

Values here are decoded and checked; the password is resolved by `secrets.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from arriero.config.table import Table, Text


class TlsConfig(Table, frozen=True):
    """[server.tls]: https instead of http. Files that change are taken while the server runs."""

    certificate: Annotated[
        Path, Meta(description="PEM file: the server's certificate, then those between it and its root.")
    ]
    key: Annotated[Path, Meta(description="PEM file with the private key of the certificate.")]
    key_password: Annotated[Text | None, Meta(description="What opens the key, if it is encrypted.")] = None
    key_password_env: Annotated[
        Text | None, Meta(description="Environment variable that holds the password.")
    ] = None
    key_password_file: Annotated[Path | None, Meta(description="File that holds the password.")] = None
    client_ca: Annotated[
        Path | None,
        Meta(description="PEM file of roots: every client needs a certificate of one. Absent = none does."),
    ] = None
