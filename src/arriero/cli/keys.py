"""`arriero keys create | list | revoke | rotate`: works on the file of keys; running servers see it at once.

A secret is printed once, alone on stdout, so that it can be piped to where it is kept.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arriero.access.key_store import KeyStore, NewKey, StoredKey
from arriero.access.principal import Grants, Names
from arriero.cli import source
from arriero.cli.duration import Duration
from arriero.cli.terminal import show_json, show_table
from arriero.config.auth import PRIORITIES, KeyLimits
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@click.group("keys")
def command() -> None:
    """Make, list, rotate and revoke the keys in a key store (auth.key_store)."""


def store_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--store FILE` and the options of a configuration."""
    store = click.option(
        "--store", type=click.Path(path_type=Path), help="The key store; default auth.key_store."
    )
    return store(source.config_options(verb))


@contextmanager
def opened(store: Path | None, config: Path | None, *, starter: bool) -> Iterator[KeyStore]:
    """Open the store that the options name, or that the configuration has. Raises ConfigError."""
    path = store or source.loaded(config, starter=starter).auth.key_store
    if path is None:
        raise ConfigError("there is no key store; set auth.key_store in the configuration, or give --store")
    with closing(KeyStore(path)) as keys:
        yield keys


@command.command("create")
@click.argument("name")
@click.option("--model", "models", multiple=True, help="A model that it may use; default all.")
@click.option("--no-models", is_flag=True, help="It may use no model but through tasks.")
@click.option("--task", "tasks", multiple=True, help="A task that it may use; default all.")
@click.option("--no-tasks", is_flag=True, help="It may use no task.")
@click.option("--memory", "memories", multiple=True, help="A memory that it may use; default all.")
@click.option("--no-memories", is_flag=True, help="It may use no memory.")
@click.option("--read-only", is_flag=True, help="It may write none of its memories.")
@click.option("--admin", is_flag=True, help="It may make and revoke keys over HTTP.")
@click.option("--expires", type=Duration(), help="When it ends: 12h, 30d ...; default never.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Default auth.key_limits.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), help="Default auth.key_limits.")
@click.option("--concurrent-requests", type=click.IntRange(min=1), help="Default auth.key_limits.")
@click.option("--tokens-per-day", type=click.IntRange(min=1), help="Default auth.key_limits.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Who goes first where requests wait.")
@store_options
def create(
    name: str, *, store: Path | None, config: Path | None, starter: bool, expires: int | None, **asked: Any
) -> None:
    """Make a key and print its secret, which cannot be had again. One limit that is given replaces all.

    A priority alone replaces none.
    """
    now = time.time()
    new = NewKey(name, grants(asked), limits(asked), None if expires is None else now + expires)
    with opened(store, config, starter=starter) as keys:
        tell_secret(*keys.create(new, now))


def grants(asked: dict[str, Any]) -> Grants:
    """Return what the options grant. Raises click.UsageError."""
    return Grants(
        models=names(asked, "models"),
        tasks=names(asked, "tasks"),
        memories=names(asked, "memories"),
        writable_memories=() if asked["read_only"] else None,
        admin=asked["admin"],
    )


def names(asked: dict[str, Any], kind: str) -> Names:
    """Return the list that is granted: None = all."""
    if asked[f"no_{kind}"] and asked[kind]:
        raise click.UsageError(f"--no-{kind} excludes the names that are given")
    return () if asked[f"no_{kind}"] else asked[kind] or None


def limits(asked: dict[str, Any]) -> KeyLimits | None:
    """Return the limits of the options; None = those of the configuration."""
    given = {key: asked[key] for key in KeyLimits.__struct_fields__ if asked[key] is not None}
    return KeyLimits(**given) if given else None


def tell_secret(key: StoredKey, secret: str) -> None:
    """Print the secret on stdout, and what it belongs to on stderr."""
    click.echo(f"{key.id} ({key.name}): this is its secret, shown only now", err=True)
    click.echo(secret)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def list_keys(store: Path | None, config: Path | None, starter: bool, as_json: bool) -> None:
    """List the keys, without their secrets."""
    with opened(store, config, starter=starter) as keys:
        found = keys.list()
    if as_json:
        show_json(found)
        return
    now = time.time()
    rows = [
        (key.id, key.name, f"{key.hint}...", state(key, now), opens(key.grants), day(key.created_at))
        for key in found
    ]
    show_table(("id", "name", "secret", "state", "opens", "made"), rows)


def state(key: StoredKey, now: float) -> str:
    """Return in a word whether a key opens anything."""
    if key.revoked_at is not None:
        return "revoked"
    if not key.is_valid(now):
        return "expired"
    return "valid" if key.expires_at is None else f"until {day(key.expires_at)}"


def opens(granted: Grants) -> str:
    """Return in a few words what a key opens."""
    lists = (("models", granted.models), ("tasks", granted.tasks), ("memories", granted.memories))
    parts = [f"{kind}: {', '.join(names) or 'none'}" for kind, names in lists if names is not None]
    parts += ["admin"] if granted.admin else []
    parts += ["reads only"] if granted.writable_memories == () else []
    return "; ".join(parts) or "everything"


def day(at: float) -> str:
    """Return a Unix time as a day (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


@command.command("revoke")
@click.argument("id")
@store_options
def revoke(id: str, store: Path | None, config: Path | None, starter: bool) -> None:
    """End a key for ever; the next request with it is refused."""
    with opened(store, config, starter=starter) as keys:
        key = keys.revoke(id, time.time())
    click.echo(f"{key.id} ({key.name}): revoked")


@command.command("rotate")
@click.argument("id")
@click.option("--overlap", type=Duration(), default="0", help="How long the old secret still works.")
@store_options
def rotate(id: str, store: Path | None, config: Path | None, starter: bool, overlap: int) -> None:
    """Give a key another secret and print it."""
    with opened(store, config, starter=starter) as keys:
        tell_secret(*keys.rotate(id, time.time(), overlap_s=overlap))
