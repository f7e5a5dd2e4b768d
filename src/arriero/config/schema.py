"""Exactly what a configuration may say: one struct for each table, every key with type, default and meaning.

Values here are decoded and checked; paths are absolute and secrets resolved. Reading and checking
is `load.py`'s, Poly's flat keys and the aliases are `poly.py`'s.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta

from arriero.config.auth import AuthConfig
from arriero.config.memory import MemorizationConfig, MemoryConfig, VectorStoresConfig
from arriero.config.remote import GuardKeys, PoktConfig, RemoteModelConfig
from arriero.config.samplers import SamplingKeys, sampling_chain, written_chain
from arriero.config.table import Count, CountOrZero, Seconds, Table, Text
from arriero.config.telemetry import TelemetryConfig
from arriero.config.tls import TlsConfig
from arriero.sampling import AnySampler

Sha256 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]


class ServerConfig(Table, frozen=True):
    """[server]: where and how much the HTTP server serves."""

    bind_address: Annotated[
        str, Meta(description="IP address and port to listen on. Port 0 = any free one.")
    ] = "127.0.0.1:3000"
    allowed_origins: Annotated[
        tuple[Text, ...] | None,
        Meta(description='Web origins that browsers may call from. Absent or "*" = any; [] = none.'),
    ] = None
    allowed_hosts: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Hosts that requests may be for, with or without a port. Absent = any."),
    ] = None
    max_concurrent: Annotated[Count, Meta(description="Requests served at a time; others wait.")] = 8
    max_body_bytes: Annotated[Count, Meta(description="Largest request body.")] = 4 * 1024 * 1024
    reload: Annotated[
        bool, Meta(description="Read the configuration again when its file changes. SIGHUP always does.")
    ] = False
    tls: Annotated[TlsConfig | None, Meta(description="Speak TLS. Absent = plain HTTP.")] = None

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return socket_address(self.bind_address)[0]

    @property
    def port(self) -> int:
        """The port to bind; 0 = any free one."""
        return socket_address(self.bind_address)[1]

    @property
    def scheme(self) -> str:
        """How the server's addresses begin."""
        return "http" if self.tls is None else "https"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return ipaddress.ip_address(self.host).is_loopback


DEFAULT_CACHE_TOKENS = 16384
"""Bound on the default size of a KV cache: its memory is taken at the start, used or not."""


class LimitsConfig(Table, frozen=True):
    """[limits]: what one server takes on before it refuses."""

    max_waiting: Annotated[
        CountOrZero,
        Meta(description="Requests that wait for one of `max_concurrent` places; more are refused."),
    ] = 64
    max_wait_s: Annotated[
        Seconds, Meta(description="Seconds after which a request that still waits is refused.")
    ] = 30.0
    chat_idle_timeout_s: Annotated[
        Count, Meta(description="Seconds after which a silent chat socket is closed.")
    ] = 3600
    max_connections: Annotated[
        Count | None,
        Meta(description="Open connections. Absent = 45 % of the files that the process may open."),
    ] = None
    max_connections_per_address: Annotated[
        Count | None,
        Meta(description="Open connections from one address. Absent = 256, from this machine any number."),
    ] = None
    max_auth_failures: Annotated[
        Count | None,
        Meta(
            description="Wrong or missing keys a minute from one address; more get 429. Absent = 60, from "
            "this machine any number."
        ),
    ] = None
    max_header_bytes: Annotated[Count, Meta(description="Request line and headers together.")] = 64 * 1024
    max_headers: Annotated[Count, Meta(description="Headers of a request.")] = 100
    max_target_bytes: Annotated[Count, Meta(description="Path and query of a request.")] = 32 * 1024
    max_held_body_bytes: Annotated[
        Count, Meta(description="Bodies of all requests that are being served; more are refused.")
    ] = 256 * 1024 * 1024
    header_timeout_s: Annotated[Seconds, Meta(description="Seconds for the headers of a request.")] = 10.0
    body_grace_s: Annotated[
        Seconds, Meta(description="Seconds for a body; one that takes longer must keep the least rate.")
    ] = 10.0
    min_body_bytes_per_s: Annotated[
        Count, Meta(description="The least rate of a body, reckoned after `body_grace_s`.")
    ] = 1024
    keep_alive_timeout_s: Annotated[
        Seconds, Meta(description="Seconds after which a connection without a request is closed.")
    ] = 30.0
    write_stall_s: Annotated[
        Seconds, Meta(description="Seconds after which a client that reads nothing is cut.")
    ] = 30.0
    drain_s: Annotated[
        CountOrZero,
        Meta(description="Seconds that running answers may go on when the server is told to stop."),
    ] = 30
    drain_delay_s: Annotated[
        CountOrZero,
        Meta(description="Seconds before that in which all is served as ever, but /readyz says no."),
    ] = 0
    engine_hang_s: Annotated[
        Seconds,
        Meta(description="Seconds without a sign of life after which a busy engine process is ended."),
    ] = 60.0
    engine_crashes: Annotated[
        Count, Meta(description="Ends of an engine process within a minute after which it is left to rest.")
    ] = 5
    memory_pressure: Annotated[
        bool,
        Meta(description="Whether caches are given up and new work is refused while memory is short."),
    ] = True


class ModelConfig(GuardKeys, frozen=True):
    """[models.NAME] without upstream: weights, and how they run. At least one of model_path, url, package."""

    architecture: Annotated[
        Text | None,
        Meta(description="What the file must be, as llama.cpp names it. Absent = whatever it is."),
    ] = None
    model_path: Annotated[
        Path | None, Meta(description="GGUF file. With `url`, where the download is kept. Alias: path.")
    ] = None
    url: Annotated[Text | None, Meta(description="http(s) address from which a missing file is fetched.")] = (
        None
    )
    package: Annotated[Text | None, Meta(description="Name in the catalogue of starter models.")] = None
    sha256: Annotated[Sha256 | None, Meta(description="SHA-256 of the file, in hex; another is refused.")] = (
        None
    )
    lora_adapters: Annotated[tuple[Path, ...], Meta(description="LoRA adapters (GGUF) applied at load.")] = ()
    threads_per_session: Annotated[Count, Meta(description="CPU threads of the model. Alias: threads.")] = 8
    context_size: Annotated[Count, Meta(description="Longest session in tokens, prompt and completion.")] = (
        512
    )
    max_sequences: Annotated[
        Annotated[int, Meta(ge=1, le=256)], Meta(description="Completions generated side by side.")
    ] = 8
    kv_cache_tokens: Annotated[
        Count | None,
        Meta(
            description="Tokens kept for all sequences together. Absent = context_size * max_sequences, but"
            " at most 16384 unless one context is longer."
        ),
    ] = None
    prefix_store_bytes: Annotated[
        CountOrZero,
        Meta(description="Main memory for evaluated text that no answer uses at the moment. 0 = none."),
    ] = 512 * 1024 * 1024
    batch_size: Annotated[Count, Meta(description="Most tokens of one decode call.")] = 512
    use_gpu: Annotated[bool, Meta(description="Put layers on the GPU.")] = False
    gpu_layers: Annotated[
        CountOrZero | None, Meta(description="How many layers go to the GPU. Absent = all.")
    ] = None
    pooling: Annotated[
        Literal["mean", "cls", "last", "none"] | None,
        Meta(description="How token vectors become an embedding. Absent = as the file says."),
    ] = None
    normalize: Annotated[
        bool | None, Meta(description="Scale embeddings to length 1. Absent = for embedding models only.")
    ] = None
    chat_template: Annotated[
        Text | None, Meta(description="Jinja template for chat messages. Absent = the one in the file.")
    ] = None
    library: Annotated[
        Path | None, Meta(description="Another build of the llama.cpp library for this model.")
    ] = None
    allow_logprobs: Annotated[bool, Meta(description="Let callers ask for the probabilities of tokens.")] = (
        True
    )
    max_n: Annotated[
        Annotated[int, Meta(ge=1, le=16)], Meta(description="Most answers to one prompt (`n`).")
    ] = 16

    @property
    def cache_tokens(self) -> int:
        """Tokens kept for all sequences together."""
        together = min(self.context_size * self.max_sequences, DEFAULT_CACHE_TOKENS)
        return self.kv_cache_tokens or max(self.context_size, together)


class BiaserConfig(Table, frozen=True):
    """tasks.NAME.biaser: what the answer must match; exactly one."""

    json_schema: Annotated[
        dict[str, Any] | None, Meta(description="The schema of a JSON value: JSON Schema, or Poly's words.")
    ] = None
    json_schema_file: Annotated[Path | None, Meta(description="A JSON file with the schema.")] = None
    choice: Annotated[
        tuple[Text, ...] | None, Meta(description="Texts of which the answer is exactly one.")
    ] = None
    regex: Annotated[Text | None, Meta(description="Regular expression that matches the whole answer.")] = (
        None
    )
    grammar: Annotated[Text | None, Meta(description="Grammar in llguidance's dialect of Lark.")] = None
    grammar_file: Annotated[Path | None, Meta(description="A file with such a grammar.")] = None
    gbnf: Annotated[Text | None, Meta(description="Grammar in llama.cpp's GBNF.")] = None
    gbnf_file: Annotated[Path | None, Meta(description="A file with such a grammar.")] = None


class TaskConfig(SamplingKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[tasks.NAME]: a model used in a configured way."""

    model: Annotated[Text, Meta(description="Name of the model.")]
    form: Annotated[
        Literal["completion", "chat"] | None,
        Meta(description="How an upstream is fed: as one text, or as messages. Absent = completion."),
    ] = None
    prelude: Annotated[str | None, Meta(description="Text fed once, at the start of a session.")] = None
    prefix: Annotated[str | None, Meta(description="Text fed before each input.")] = None
    postfix: Annotated[str | None, Meta(description="Text fed after each input.")] = None
    private_tokens: Annotated[
        tuple[Text, ...], Meta(description="Texts refused in inputs and left out of answers.")
    ] = ()
    max_tokens: Annotated[
        CountOrZero | None, Meta(description="Most tokens of an answer. Absent = until the context is full.")
    ] = None
    stop_sequences: Annotated[
        tuple[Text, ...], Meta(description="Texts that end the answer; not returned.")
    ] = ()
    biaser: Annotated[BiaserConfig | None, Meta(description="What the answer must match.")] = None
    bias_prompt: Annotated[
        str | None,
        Meta(description="Text fed between a free answer, which is hidden, and the one that must match."),
    ] = None
    show_hidden: Annotated[
        bool, Meta(description="Callers who ask for it see the free answer before the bias prompt.")
    ] = False
    memorization: Annotated[MemorizationConfig | None, Meta(description="Recall from a memory.")] = None

    @property
    def chain(self) -> tuple[AnySampler, ...]:
        """The samplers, in the order of application."""
        return sampling_chain(self)

    @property
    def written_chain(self) -> tuple[AnySampler, ...]:
        """What the task says of the samplers, without the defaults of a model that runs here."""
        return written_chain(self)


AnyModelConfig = ModelConfig | RemoteModelConfig
"""A table with the key `upstream` is the second."""


class Config(Table, frozen=True):
    """A whole configuration."""

    server: Annotated[ServerConfig, Meta(description="The HTTP server.")] = msgspec.field(
        default_factory=ServerConfig
    )
    auth: Annotated[AuthConfig, Meta(description="Who may call.")] = msgspec.field(default_factory=AuthConfig)
    limits: Annotated[LimitsConfig, Meta(description="What one server takes on.")] = msgspec.field(
        default_factory=LimitsConfig
    )
    telemetry: Annotated[TelemetryConfig, Meta(description="What the server tells.")] = msgspec.field(
        default_factory=TelemetryConfig
    )
    pokt: Annotated[PoktConfig, Meta(description="What /pokt/* tells of a model.")] = msgspec.field(
        default_factory=PoktConfig
    )
    models: Annotated[dict[str, AnyModelConfig], Meta(description="Models by name.")] = msgspec.field(
        default_factory=dict
    )
    tasks: Annotated[dict[str, TaskConfig], Meta(description="Tasks by name.")] = msgspec.field(
        default_factory=dict
    )
    memories: Annotated[dict[str, MemoryConfig], Meta(description="Memories by name.")] = msgspec.field(
        default_factory=dict
    )
    vector_stores: Annotated[
        VectorStoresConfig, Meta(description="Files and memories that callers make.")
    ] = msgspec.field(default_factory=VectorStoresConfig)
    cache_path: Annotated[
        Path, Meta(description="Directory for downloads. Absent = the user's cache directory.")
    ] = msgspec.field(default_factory=lambda: Path(platformdirs.user_cache_dir("arriero")))

    @property
    def local_models(self) -> dict[str, ModelConfig]:
        """The models that run here."""
        return {name: model for name, model in self.models.items() if isinstance(model, ModelConfig)}

    @property
    def remote_models(self) -> dict[str, RemoteModelConfig]:
        """The models that run on an upstream."""
        return {name: model for name, model in self.models.items() if isinstance(model, RemoteModelConfig)}

    @property
    def serves_vector_stores(self) -> bool:
        """Whether callers may upload files and make memories of them."""
        enabled = self.vector_stores.enabled
        return not self.auth.public if enabled is None else enabled

    @property
    def pokt_model(self) -> str | None:
        """The model whose documents are served at `/pokt/*`; None when that is not said."""
        if self.pokt.model is not None:
            return self.pokt.model
        names = list(self.remote_models or self.models)
        return names[0] if len(names) == 1 else None

    def public_name(self, name: str) -> str:
        """Return the name by which callers know a model."""
        return self.models[name].public_name or name

    def threads(self, name: str) -> int:
        """Return how many threads a model has here."""
        model = self.models[name]
        return model.threads_per_session if isinstance(model, ModelConfig) else 0

    def longest_context(self, name: str) -> int | None:
        """Return the most tokens that prompt and completion of a model may have; None when not known here."""
        model = self.models[name]
        return model.context_size if isinstance(model, ModelConfig) else model.max_context

    def model_file(self, name: str) -> Path | None:
        """Return where a local model's weights are or will be; None when the catalogue decides."""
        model = self.local_models[name]
        if model.model_path is not None or model.url is None:
            return model.model_path
        return self.cache_path / "models" / f"{name}.bin"


def socket_address(text: str) -> tuple[str, int]:
    """Return host and port of `IP:port` or `[IPv6]:port`. Raises ValueError saying what is expected."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(
            f'expected IP:port with a port up to 65535, such as 127.0.0.1:3000, got "{text[:80]}"'
        )
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    try:
        return str(ipaddress.IPv4Address(host)), int(port)
    except ValueError:
        raise ValueError(
            f'"{host[:80]}" is not an IP address; write 127.0.0.1 for this machine, 0.0.0.0 for all networks,'
            " and an IPv6 address in brackets"
        ) from None
