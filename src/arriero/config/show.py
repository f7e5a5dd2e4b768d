"""Shows a configuration as it came out, with secrets masked, and describes all keys as JSON Schema. Pure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from arriero.config.decode import keys_of
from arriero.config.poly import FLAT_KEYS, MODEL_ALIASES
from arriero.config.remote import RemoteModelConfig
from arriero.config.schema import Config, ModelConfig

MASK = "***"
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
SECRET_KEYS = frozenset(
    {"allowed_keys", "api_key", "key_password", "otlp_headers", "shared_counters_password", "symmetric"}
)
ADDRESS_KEYS = frozenset({"shared_counters", "url"})


def shown(config: Config) -> str:
    """Return the configuration as TOML, defaults included and secrets masked."""
    document = _masked(_plain(config))
    scalars = {key: value for key, value in document.items() if not isinstance(value, dict)}
    lines = _pairs(scalars)
    for key, table in document.items():
        if not isinstance(table, dict):
            continue
        named = key in ("models", "tasks", "memories")
        tables = {f"{key}.{_key(name)}": inner for name, inner in table.items()} if named else {key: table}
        for header, inner in tables.items():
            lines += ["", f"[{header}]", *_pairs(inner)]
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema of the file, Poly's flat keys and the aliases included."""
    (schema, remote), tables = msgspec.json.schema_components(
        (_with_local_models(), RemoteModelConfig),
        schema_hook=lambda kind: {"type": "string"},
        ref_template="#/$defs/{name}",
    )
    top = tables["Config"]["properties"]
    for key, table in FLAT_KEYS.items():
        top[key] = tables[f"{table.capitalize()}Config"]["properties"][key]
    local = top["models"]["additionalProperties"]
    top["models"]["additionalProperties"] = {"anyOf": [local, remote]}
    model = tables["ModelConfig"]["properties"]
    for alias, key in MODEL_ALIASES.items():
        model[alias] = model[key]
    plain: dict[str, Any] = json.loads(msgspec.json.encode({**schema, "$defs": tables}))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Arriero configuration",
        **plain,
    }


def _with_local_models() -> type[msgspec.Struct]:
    """Return the type of the file without remote models: msgspec describes no union of tables."""
    types = {
        **keys_of(Config),
        "models": Annotated[dict[str, ModelConfig], Meta(description="Models by name.")],
    }
    fields = [
        (field.name, types[field.name], msgspec.field(default_factory=field.default_factory))
        for field in msgspec.structs.fields(Config)
    ]
    return msgspec.defstruct("Config", fields, forbid_unknown_fields=True, kw_only=True)


def _plain(value: Any) -> Any:
    """Return structs as dictionaries without absent keys, paths as strings, tuples as lists."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _masked(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with secrets, and what an address carries beside its place, masked."""
    masked: dict[str, Any] = {}
    for key, value in document.items():
        if key in SECRET_KEYS and isinstance(value, list):
            masked[key] = [MASK for _ in value]
        elif key in SECRET_KEYS:
            # What a reference led to is left out, so that what is shown can be loaded.
            masked |= {} if {f"{key}_env", f"{key}_file"} & document.keys() else {key: MASK}
        elif key in ADDRESS_KEYS and isinstance(value, str):
            masked[key] = _masked_url(value)
        else:
            masked[key] = _masked(value) if isinstance(value, dict) and key != "json_schema" else value
    return masked


def _masked_url(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(netloc=(MASK + at if user else "") + host, query=MASK if parts.query else "")
    )


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(value)) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _string(value) if isinstance(value, str) else repr(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else _string(key)
