"""Puts secrets in place of references: `NAME_env` and `NAME_file` beside a secret say where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from arriero.config.locate import KeyPath
from arriero.config.problem import Problem
from arriero.config.remote import RemoteModelConfig, UpstreamConfig
from arriero.config.schema import AnyModelConfig, AuthConfig, Config, JwtKey

MAX_SECRET_BYTES = 65536


def with_secrets(config: Config, env: Mapping[str, str], problems: list[Problem]) -> Config:
    """Return the configuration with the secrets that it refers to; unreadable ones are problems."""
    auth = config.auth
    texts = _referred(auth, "allowed_keys", ("auth",), env, problems)
    keys = (*auth.allowed_keys, *(key for text in texts for key in text.split()))
    jwt = auth.jwt_private_key
    if jwt is not None:
        jwt = _with_secret(jwt, env, problems)
    auth = msgspec.structs.replace(auth, allowed_keys=keys, jwt_private_key=jwt)
    models: dict[str, AnyModelConfig] = {
        name: _with_api_key(model, ("models", name, "upstream"), env, problems)
        if isinstance(model, RemoteModelConfig)
        else model
        for name, model in config.models.items()
    }
    return msgspec.structs.replace(config, auth=auth, models=models)


def _with_api_key(
    model: RemoteModelConfig, path: KeyPath, env: Mapping[str, str], problems: list[Problem]
) -> RemoteModelConfig:
    upstream = model.upstream
    given = [
        key for key in (upstream.api_key, upstream.api_key_env, upstream.api_key_file) if key is not None
    ]
    if len(given) > 1:
        problems.append(Problem(path, "give one of api_key, api_key_env, api_key_file"))
        return model
    for key in _referred(upstream, "api_key", path, env, problems):
        upstream = msgspec.structs.replace(upstream, api_key=key)
    return msgspec.structs.replace(model, upstream=upstream)


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
    table: AuthConfig | JwtKey | UpstreamConfig,
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
