"""`arriero token`: a JSON Web Token for a server that knows its secret or its public key."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import click

from arriero.access.jwt import Claims, SharedSecret
from arriero.access.mint import PrivateKey, minted
from arriero.cli import source
from arriero.cli.duration import Duration
from arriero.cli.keys import names
from arriero.config.auth import PRIORITIES, JwtKey
from arriero.errors import ConfigError


@click.command("token")
@source.config_options
@click.option("-s", "--subject", help="Who bears the token (`sub`); for logs and counts.")
@click.option("-t", "--task", "tasks", multiple=True, help="A task that it may use; default all.")
@click.option("--no-tasks", is_flag=True, help="It may use no task.")
@click.option("--model", "models", multiple=True, help="A model that it may use; default all.")
@click.option("--no-models", is_flag=True, help="It may use no model but through tasks.")
@click.option("--memory", "memories", multiple=True, help="A memory that it may use; default all.")
@click.option("--no-memories", is_flag=True, help="It may use no memory.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Who goes first where requests wait.")
@click.option("--lifetime", type=Duration(), default="1h", show_default=True, help="90, 15m, 12h, 30d ...")
@click.option("--issuer", help="The claim `iss`; default that of auth.jwt_private_key.")
@click.option("--audience", help="The claim `aud`; default that of auth.jwt_private_key.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="Private key (PEM) to sign with, in place of the secret of auth.jwt_private_key.",
)
@click.option("--kid", help="The name of the key in the server's key set.")
def command(
    *,
    config: Path | None,
    starter: bool,
    subject: str | None,
    lifetime: int,
    issuer: str | None,
    audience: str | None,
    key: Path | None,
    kid: str | None,
    **asked: Any,
) -> None:
    """Print a token. Without --key it is signed (HS256) with the secret of auth.jwt_private_key."""
    shared = JwtKey() if key else shared_secret(config, starter=starter)
    now = int(time.time())
    claims = Claims(
        exp=now + lifetime,
        iat=now,
        iss=issuer or shared.issuer,
        aud=audience or shared.audience,
        sub=subject,
        tasks=names(asked, "tasks"),
        models=names(asked, "models"),
        memories=names(asked, "memories"),
        priority=asked["priority"],
    )
    signing = PrivateKey(key) if key else SharedSecret(shared.symmetric or "")
    click.echo(minted(claims, signing, kid=kid))


def shared_secret(config: Path | None, *, starter: bool) -> JwtKey:
    """Return the secret of the configuration. Raises ConfigError with a suggestion when there is none."""
    shared = source.loaded(config, starter=starter).auth.jwt_private_key
    if shared is None or not shared.symmetric:
        raise ConfigError(
            "there is no secret to sign with; put one into the configuration, for example\n"
            f'jwt_private_key = {{ symmetric = "{secrets.token_urlsafe(32)}" }}'
        )
    return shared
