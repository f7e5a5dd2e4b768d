"""What must hold between the values of remote models, and between the public names of all models."""

from __future__ import annotations

import re
from collections.abc import Iterator

from arriero.config.auth import AuthConfig
from arriero.config.locate import KeyPath
from arriero.config.problem import Problem, hint, listed
from arriero.config.remote import RemoteModelConfig, UpstreamAddress, UpstreamConfig
from arriero.config.schema import Config, ServerConfig

PUBLIC_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,254}[^\s\x00-\x1f\x7f])?")
API_KEY = re.compile(r"[\x21-\x7e]+")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
PATH = re.compile(r"(?:/[A-Za-z0-9._~/-]*)?")
OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to one connection or to one body: the guard writes its own."""


def remote_faults(config: Config) -> Iterator[Problem]:
    """Yield everything about remote models and public names for which the configuration must be refused."""
    yield from _public_names(config)
    catching = [name for name, model in config.remote_models.items() if model.catch_all]
    for name in catching[1:]:
        yield Problem(
            ("models", name, "catch_all"), f'"{catching[0]}" is catch_all already; one model at most'
        )
    for name, model in config.remote_models.items():
        yield from _model(("models", name), model, config.server)
        yield from _upstream(("models", name, "upstream"), model.upstream, config.server, config.auth)
    yield from _pokt(config)


def _public_names(config: Config) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, model in config.models.items():
        path: KeyPath = ("models", name) if model.public_name is None else ("models", name, "public_name")
        public = model.public_name or name
        if model.public_name is not None and not PUBLIC_NAME.fullmatch(public):
            message = "a public name has 1 to 256 printable characters, and no blank at its ends"
            yield Problem(path, message)
        if owners.setdefault(public, name) != name:
            message = f'"{public[:80]}" is the public name of models.{owners[public]} too; each needs its own'
            yield Problem(path, message)


def _model(path: KeyPath, model: RemoteModelConfig, server: ServerConfig) -> Iterator[Problem]:
    if model.max_tokens and model.max_context and model.max_tokens > model.max_context:
        message = f"{model.max_tokens} tokens do not fit into a context of {model.max_context}"
        yield Problem((*path, "max_tokens"), message)
    if model.max_body_bytes and model.max_body_bytes > server.max_body_bytes:
        message = f"never reached: [server] takes {server.max_body_bytes} bytes; raise its max_body_bytes"
        yield Problem((*path, "max_body_bytes"), message)
    if not model.routes:
        yield Problem(
            (*path, "routes"), "a model without routes serves nobody; name one, or leave the key out"
        )
    directory = model.tokenizer_path
    if directory is not None and not (directory / "tokenizer.json").is_file():
        yield Problem((*path, "tokenizer_path"), f"there is no file {directory / 'tokenizer.json'}")


def _pokt(config: Config) -> Iterator[Problem]:
    name = config.pokt_model
    if name is not None and name not in config.models:
        near = hint(name, list(config.models), otherwise=f"; configured: {listed(config.models)}")
        yield Problem(("pokt", "model"), f'there is no model "{name[:80]}"{near}')
        return
    remote = None if name is None else config.remote_models.get(name)
    if remote is None or not config.pokt.reveal_config:
        return
    directory = remote.tokenizer_path
    if directory is None or not (directory / "config.json").is_file():
        message = f"the configuration is a config.json in models.{name}.tokenizer_path, and there is none"
        yield Problem(("pokt", "reveal_config"), message)


def _upstream(
    path: KeyPath, upstream: UpstreamConfig, server: ServerConfig, auth: AuthConfig
) -> Iterator[Problem]:
    yield from _urls((*path, "urls"), upstream, server)
    if upstream.api_key is not None and not API_KEY.fullmatch(upstream.api_key):
        key = next(key for key in ("api_key_env", "api_key_file", "api_key") if getattr(upstream, key))
        yield Problem((*path, key), "the key holds a character that no header can carry, such as a blank")
    if not PATH.fullmatch(upstream.health_path):
        yield Problem((*path, "health_path"), 'expected a path such as /health, or "" for none')
    for index, header in enumerate(upstream.forward_headers):
        if (fault := _header_fault(header, upstream, auth)) is not None:
            yield Problem((*path, "forward_headers", index), fault)


def _urls(path: KeyPath, upstream: UpstreamConfig, server: ServerConfig) -> Iterator[Problem]:
    seen: set[UpstreamAddress] = set()
    for index, url in enumerate(upstream.urls):
        try:
            address = UpstreamAddress.parse(url)
        except ValueError as exc:
            yield Problem((*path, index), str(exc))
            continue
        if address in seen:
            yield Problem((*path, index), "this server is listed twice")
        elif _is_ourselves(address, server):
            message = (
                f"this is where Arriero itself listens ({server.bind_address}): requests would go in a circle"
            )
            yield Problem((*path, index), message)
        seen.add(address)


def _is_ourselves(address: UpstreamAddress, server: ServerConfig) -> bool:
    try:
        return server.port != 0 and address.is_served_at(server.host, server.port)
    except ValueError:
        return False


def _header_fault(written: str, upstream: UpstreamConfig, auth: AuthConfig) -> str | None:
    header = written.lower()
    if not HEADER.fullmatch(header):
        return "expected the name of a header, such as traceparent"
    if header in OWN_HEADERS or header.startswith("proxy-"):
        return f"{header} is never passed on: the guard writes its own"
    if header == "authorization" and upstream.api_key is not None:
        return "the upstream gets its api_key; it cannot get the callers' keys too"
    if header == "authorization" and (auth.allowed_keys or auth.jwt_private_key):
        return "the callers' keys for this server would go to the upstream; give an api_key_env there instead"
    return None
