"""What a configuration may say of a remote model: the servers behind it, and the guard's rules for it.

`UpstreamAddress.parse` decides which addresses are usable; what must hold between the values of one
model, and between models, is `remote_checks.py`'s.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from arriero.config.table import Count, Seconds, Table, Text

Route = Literal[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
]

Dialect = Literal["openai", "vllm"]
"""`openai`: JSON Schemas as `response_format`. `vllm`: also vLLM's samplers and `structured_outputs`."""

ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:?#\[\]]*)(?::(?P<port>[^/?#]*))?"
    r"(?P<prefix>/[^?#]*)?(?P<rest>[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
NUMERIC_HOST = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


class GuardKeys(Table, frozen=True):
    """What every model may say of the rules for its callers."""

    public_name: Annotated[
        Text | None,
        Meta(description="Name by which callers know the model. Absent = the name of its table."),
    ] = None
    max_tokens: Annotated[
        Count | None,
        Meta(description="Most tokens of one completion, also where a request gives no limit. Absent = any."),
    ] = None
    over_limit: Annotated[
        Literal["crop", "reject"],
        Meta(description="Whether a request for too many tokens gets fewer of them, or a refusal."),
    ] = "crop"


class UpstreamConfig(Table, frozen=True):
    """models.NAME.upstream: the servers that run a remote model."""

    urls: Annotated[
        Annotated[tuple[Text, ...], Meta(min_length=1, max_length=64)],
        Meta(description="Addresses of the servers, without /v1. All of them must serve the same model."),
    ]
    model: Annotated[Text, Meta(description="Name of the model there. Callers never see it.")]
    dialect: Annotated[
        Dialect | None,
        Meta(description="What tasks may use beyond the sampling that every server knows. Absent = nothing."),
    ] = None
    api_key: Annotated[
        Text | None, Meta(description="The key for the upstream itself; better one of the two below.")
    ] = None
    api_key_env: Annotated[
        Text | None, Meta(description="Environment variable that holds the key for the upstream.")
    ] = None
    api_key_file: Annotated[Path | None, Meta(description="File that holds the key for the upstream.")] = None
    forward_headers: Annotated[
        tuple[Text, ...],
        Meta(description="Names of request headers that are passed on; all others are not."),
    ] = ()
    health_path: Annotated[
        str, Meta(description='Path on which the upstream tells its health. "" = it has none.')
    ] = "/health"

    @property
    def addresses(self) -> tuple[UpstreamAddress, ...]:
        """The servers, in the order of `urls`."""
        return tuple(UpstreamAddress.parse(url) for url in self.urls)


class TimeoutsConfig(Table, frozen=True):
    """models.NAME.timeouts: how long an upstream may be silent."""

    connect_s: Annotated[Seconds, Meta(description="Seconds for a connection, TLS included.")] = 5
    first_byte_s: Annotated[
        Seconds, Meta(description="Seconds from the request to the first byte of its answer.")
    ] = 600
    idle_s: Annotated[
        Seconds,
        Meta(description="Seconds between two pieces of an answer; a stream that flows never ends by it."),
    ] = 60
    total_s: Annotated[
        Seconds | None, Meta(description="Seconds for the whole answer. Absent = no bound.")
    ] = None


class RemoteModelConfig(GuardKeys, frozen=True, kw_only=True):
    """[models.NAME] with an upstream: a model on another server, and the rules for its use."""

    upstream: Annotated[UpstreamConfig, Meta(description="The servers that run the model.")]
    timeouts: Annotated[TimeoutsConfig, Meta(description="How long they may be silent.")] = msgspec.field(
        default_factory=TimeoutsConfig
    )
    routes: Annotated[
        tuple[Route, ...], Meta(description="Routes that the model serves; on any other it does not exist.")
    ] = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank")
    catch_all: Annotated[
        bool,
        Meta(description="Serve requests that name no model, or an unknown one. One model at most has it."),
    ] = False
    allow_logprobs: Annotated[bool, Meta(description="Let callers ask for the probabilities of tokens.")] = (
        False
    )
    max_context: Annotated[
        Count | None,
        Meta(description="Most tokens of prompt and completion together. Absent = as the upstream has it."),
    ] = None
    end_token: Annotated[
        Text | None,
        Meta(description="Text of the model's end token; tasks in completion form put it after answers."),
    ] = None
    max_n: Annotated[Count, Meta(description="Most answers to one prompt (`n`).")] = 4
    max_best_of: Annotated[Count, Meta(description="Most answers generated to choose from (`best_of`).")] = 4
    max_prompts: Annotated[Count, Meta(description="Most prompts of one request for completions.")] = 32
    max_embedding_inputs: Annotated[Count, Meta(description="Most texts of one request for embeddings.")] = (
        2048
    )
    max_rerank_documents: Annotated[Count, Meta(description="Most documents of one request to rerank.")] = (
        1000
    )
    max_body_bytes: Annotated[
        Count | None, Meta(description="Largest request body. Absent = `max_body_bytes` of [server].")
    ] = None
    max_concurrent: Annotated[
        Count, Meta(description="Requests at the upstream at a time; more are refused, to be tried again.")
    ] = 1024
    tokenizer_path: Annotated[
        Path | None,
        Meta(
            description="Directory with the model's tokenizer.json, to count prompts here. Absent = the"
            " upstream is asked."
        ),
    ] = None


class PoktConfig(Table, frozen=True):
    """[pokt]: what `/pokt/*` tells of a model."""

    model: Annotated[
        Text | None,
        Meta(
            description="Name of the model whose documents are served. Absent = the only remote model, or"
            " else the only model."
        ),
    ] = None
    reveal_config: Annotated[
        bool | None,
        Meta(
            description="Tell the model's own configuration in place of public name and context. Absent ="
            " that of a local model only."
        ),
    ] = None


@dataclass(frozen=True)
class UpstreamAddress:
    """Where one server of an upstream is. `host` has no brackets; `prefix` is empty or begins with `/`."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, text: str) -> UpstreamAddress:
        """Return the address that a text names. Raises ValueError saying what is expected.

        The message repeats nothing of a text with user and password.
        """
        if "@" in text:
            raise ValueError(
                "an address holds no user and password; give the key by api_key_env or api_key_file"
            )
        match = ADDRESS.fullmatch(text)
        if match is None:
            shown = text.partition("?")[0][:80]
            raise ValueError(
                f'expected http:// or https:// and a host, as in http://127.0.0.1:8000, got "{shown}"'
            )
        if match["rest"]:
            raise ValueError("an address ends before ? and #; its query cannot be kept")
        scheme: Literal["http", "https"] = "https" if match["scheme"].lower() == "https" else "http"
        default = 443 if scheme == "https" else 80
        port = default if match["port"] is None else _port(match["port"])
        return cls(scheme, _host(match["host"]), port, _prefix(match["prefix"] or ""))

    def is_served_at(self, host: str, port: int) -> bool:
        """Say whether a server that binds this IP address and port would answer here."""
        if port != self.port:
            return False
        bound, meant = ipaddress.ip_address(host), self._local_addresses()
        return any(ip == bound or (bound.is_unspecified and ip.is_loopback) for ip in meant)

    def _local_addresses(self) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        """Return the IP addresses that the host is known to mean without asking a name server."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return []
        ip = getattr(ip, "ipv4_mapped", None) or ip
        # A client that connects to "no address" reaches its own machine.
        return [ip] if not ip.is_unspecified else [ip, *map(ipaddress.ip_address, ("127.0.0.1", "::1"))]


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise ValueError(f'a port is a number from 1 to 65535, got "{text[:80]}"')
    return int(text)


def _host(written: str) -> str:
    host = written.lower()
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f'"{written[:80]}" is not an IPv6 address') from None
    if NUMERIC_HOST.fullmatch(host):
        # Resolvers read 127.1 or 0x7f000001 as addresses too; only the usual spelling is taken.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f'"{written[:80]}" is not an IPv4 address in the form 127.0.0.1') from None
    if not HOST.fullmatch(host):
        raise ValueError(f'"{written[:80]}" is not the name of a host')
    return host


def _prefix(path: str) -> str:
    prefix = path.rstrip("/")
    if not PREFIX.fullmatch(path):
        raise ValueError(f'"{path[:80]}" is not a plain path; leave it out, or give one such as /llm')
    if prefix.endswith("/v1"):
        raise ValueError("leave out /v1 at the end: the route is added to the address")
    return prefix
