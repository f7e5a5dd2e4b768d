"""Puts secrets in place of references: `NAME_env` and `NAME_file` beside a secret say where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from arriero.config.auth import AuthConfig
from arriero.config.locate import KeyPath
from arriero.config.memory import MemoryConfig
from arriero.config.problem import Problem
from arriero.config.remote import RemoteModelConfig
from arriero.config.schema import AnyModelConfig, Config, ServerConfig

MAX_SECRET_BYTES = 65536

Keyed = TypeVar("Keyed", bound=msgspec.Struct)
"""A table that holds a secret, or refers to one."""


def with_secrets(config: Config, env: Mapping[str, str], problems: list[Problem]) -> Config:
    """Return the configuration with the secrets that it refers to; unreadable ones are problems."""
    secrets = _Secrets(env, problems)
    return replace(
        config,
        server=_server(config.server, secrets),
        auth=_auth(config.auth, secrets),
        models={name: _model(model, name, secrets) for name, model in config.models.items()},
        memories={name: _memory(memory, name, secrets) for name, memory in config.memories.items()},
        telemetry=secrets.put(config.telemetry, "otlp_headers", ("telemetry",)),
    )


class _Secrets:
    """Reads what tables refer to, and owns the list of what cannot be read."""

    def __init__(self, env: Mapping[str, str], problems: list[Problem]) -> None:
        self._env = env
        self._problems = problems

    def put(self, table: Keyed, key: str, path: KeyPath, *, least: int = 0) -> Keyed:
        """Return a table with the secret that it has, or refers to; of the three ways one may be taken."""
        ways = (key, f"{key}_env", f"{key}_file")
        if not least <= sum(getattr(table, way) is not None for way in ways) <= 1:
            self._problems.append(Problem(path, f"give one of {', '.join(ways)}"))
            return table
        for text in self.texts(table, key, path):
            table = replace(table, **{key: text})
        return table

    def texts(self, table: msgspec.Struct, key: str, path: KeyPath) -> list[str]:
        """Return the texts that `key_env` and `key_file` refer to."""
        texts = []
        for reference in (f"{key}_env", f"{key}_file"):
            place = getattr(table, reference)
            if place is None:
                continue
            try:
                texts.append(_file(place) if isinstance(place, Path) else _variable(self._env, place))
            except (OSError, ValueError) as exc:
                reason = getattr(exc, "strerror", None) or exc
                self._problems.append(Problem((*path, reference), f"the secret cannot be read: {reason}"))
        return texts


def _server(server: ServerConfig, secrets: _Secrets) -> ServerConfig:
    if server.tls is None:
        return server
    return replace(server, tls=secrets.put(server.tls, "key_password", ("server", "tls")))


def _auth(auth: AuthConfig, secrets: _Secrets) -> AuthConfig:
    texts = secrets.texts(auth, "allowed_keys", ("auth",))
    auth = replace(auth, allowed_keys=(*auth.allowed_keys, *(key for text in texts for key in text.split())))
    auth = secrets.put(auth, "shared_counters_password", ("auth",))
    if auth.jwt_private_key is None:
        return auth
    path = ("auth", "jwt_private_key")
    return replace(auth, jwt_private_key=secrets.put(auth.jwt_private_key, "symmetric", path, least=1))


def _model(model: AnyModelConfig, name: str, secrets: _Secrets) -> AnyModelConfig:
    if not isinstance(model, RemoteModelConfig):
        return model
    return replace(model, upstream=secrets.put(model.upstream, "api_key", ("models", name, "upstream")))


def _memory(memory: MemoryConfig, name: str, secrets: _Secrets) -> MemoryConfig:
    store = memory.store
    if store.qdrant is None:
        return memory
    qdrant = secrets.put(store.qdrant, "api_key", ("memories", name, "store", "qdrant"))
    return replace(memory, store=replace(store, qdrant=qdrant))


def _variable(env: Mapping[str, str], name: str) -> str:
    if not env.get(name, "").strip():
        raise ValueError(f"environment variable {name} is not set or empty")
    return env[name].strip()


def _file(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"{path} is too large for a secret")
    text = content.decode().strip()
    if not text:
        raise ValueError(f"{path} is empty")
    return text
