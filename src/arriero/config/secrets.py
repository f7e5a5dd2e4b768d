"""Puts secrets in place of references: `NAME_env` and `NAME_file` beside a secret say where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from arriero.config.auth import AuthConfig, JwtKey
from arriero.config.locate import KeyPath
from arriero.config.memory import MemoryConfig, QdrantStore, StoreConfig
from arriero.config.problem import Problem
from arriero.config.remote import RemoteModelConfig, UpstreamConfig
from arriero.config.schema import AnyModelConfig, Config, ServerConfig
from arriero.config.telemetry import TelemetryConfig
from arriero.config.tls import TlsConfig

MAX_SECRET_BYTES = 65536

Keyed = TypeVar("Keyed", UpstreamConfig, QdrantStore)
"""A table that holds the key for a server."""


def with_secrets(config: Config, env: Mapping[str, str], problems: list[Problem]) -> Config:
    """Return the configuration with the secrets that it refers to; unreadable ones are problems."""
    auth = config.auth
    texts = _referred(auth, "allowed_keys", ("auth",), env, problems)
    keys = (*auth.allowed_keys, *(key for text in texts for key in text.split()))
    jwt = auth.jwt_private_key
    if jwt is not None:
        jwt = _with_secret(jwt, env, problems)
    auth = msgspec.structs.replace(auth, allowed_keys=keys, jwt_private_key=jwt)
    auth = _with_counters_password(auth, env, problems)
    models: dict[str, AnyModelConfig] = {
        name: _with_upstream_key(model, name, env, problems)
        if isinstance(model, RemoteModelConfig)
        else model
        for name, model in config.models.items()
    }
    memories = {
        name: _with_store(memory, _with_qdrant_key(memory.store, name, env, problems))
        for name, memory in config.memories.items()
    }
    telemetry = _with_headers(config.telemetry, env, problems)
    return msgspec.structs.replace(
        config,
        server=_with_key_password(config.server, env, problems),
        auth=auth,
        models=models,
        memories=memories,
        telemetry=telemetry,
    )


def _with_counters_password(auth: AuthConfig, env: Mapping[str, str], problems: list[Problem]) -> AuthConfig:
    """Return the table with the password of the shared counters, if there is one."""
    key = "shared_counters_password"
    given = [name for name in (key, f"{key}_env", f"{key}_file") if getattr(auth, name) is not None]
    if len(given) > 1:
        problems.append(Problem(("auth",), f"give one of {key}, {key}_env, {key}_file"))
        return auth
    for password in _referred(auth, key, ("auth",), env, problems):
        auth = msgspec.structs.replace(auth, shared_counters_password=password)
    return auth


def _with_key_password(server: ServerConfig, env: Mapping[str, str], problems: list[Problem]) -> ServerConfig:
    tls = server.tls
    if tls is None:
        return server
    path = ("server", "tls")
    given = (tls.key_password, tls.key_password_env, tls.key_password_file)
    if sum(password is not None for password in given) > 1:
        problems.append(Problem(path, "give one of key_password, key_password_env, key_password_file"))
        return server
    for password in _referred(tls, "key_password", path, env, problems):
        tls = msgspec.structs.replace(tls, key_password=password)
    return msgspec.structs.replace(server, tls=tls)


def _with_upstream_key(
    model: RemoteModelConfig, name: str, env: Mapping[str, str], problems: list[Problem]
) -> RemoteModelConfig:
    upstream = _with_api_key(model.upstream, ("models", name, "upstream"), env, problems)
    return msgspec.structs.replace(model, upstream=upstream)


def _with_qdrant_key(
    store: StoreConfig, name: str, env: Mapping[str, str], problems: list[Problem]
) -> StoreConfig:
    if store.qdrant is None:
        return store
    qdrant = _with_api_key(store.qdrant, ("memories", name, "store", "qdrant"), env, problems)
    return msgspec.structs.replace(store, qdrant=qdrant)


def _with_store(memory: MemoryConfig, store: StoreConfig) -> MemoryConfig:
    return msgspec.structs.replace(memory, store=store)


def _with_api_key(table: Keyed, path: KeyPath, env: Mapping[str, str], problems: list[Problem]) -> Keyed:
    """Return a table with the key that it has, or refers to."""
    given = [key for key in (table.api_key, table.api_key_env, table.api_key_file) if key is not None]
    if len(given) > 1:
        problems.append(Problem(path, "give one of api_key, api_key_env, api_key_file"))
        return table
    for key in _referred(table, "api_key", path, env, problems):
        table = msgspec.structs.replace(table, api_key=key)
    return table


def _with_headers(
    telemetry: TelemetryConfig, env: Mapping[str, str], problems: list[Problem]
) -> TelemetryConfig:
    """Return the table with the headers for the collector that it has, or refers to."""
    path = ("telemetry",)
    given = (telemetry.otlp_headers, telemetry.otlp_headers_env, telemetry.otlp_headers_file)
    if sum(headers is not None for headers in given) > 1:
        problems.append(Problem(path, "give one of otlp_headers, otlp_headers_env, otlp_headers_file"))
        return telemetry
    for headers in _referred(telemetry, "otlp_headers", path, env, problems):
        telemetry = msgspec.structs.replace(telemetry, otlp_headers=headers)
    return telemetry


def _with_secret(jwt: JwtKey, env: Mapping[str, str], problems: list[Problem]) -> JwtKey:
    path = ("auth", "jwt_private_key")
    given = [
        secret for secret in (jwt.symmetric, jwt.symmetric_env, jwt.symmetric_file) if secret is not None
    ]
    if len(given) != 1:
        problems.append(Problem(path, "give one of symmetric, symmetric_env, symmetric_file"))
        return jwt
    for secret in _referred(jwt, "symmetric", path, env, problems):
        jwt = msgspec.structs.replace(jwt, symmetric=secret)
    return jwt


def _referred(
    table: AuthConfig | JwtKey | UpstreamConfig | QdrantStore | TelemetryConfig | TlsConfig,
    key: str,
    path: KeyPath,
    env: Mapping[str, str],
    problems: list[Problem],
) -> list[str]:
    """Return the texts that `key_env` and `key_file` refer to."""
    texts = []
    for reference in (f"{key}_env", f"{key}_file"):
        place = getattr(table, reference)
        if place is None:
            continue
        try:
            texts.append(_file(place) if isinstance(place, Path) else _variable(env, place))
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            problems.append(Problem((*path, reference), f"the secret cannot be read: {reason}"))
    return texts


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
