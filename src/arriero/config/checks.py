"""What must hold between the values of a configuration, and between them and the files that they name.

Reads the first bytes of weights; loads nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from arriero.config.architectures import ARCHITECTURES, CANNOT_LOAD
from arriero.config.auth_checks import auth_faults
from arriero.config.locate import KeyPath
from arriero.config.memory import MemoryConfig, RerankConfig
from arriero.config.problem import Problem, hint, listed
from arriero.config.remote_checks import remote_faults
from arriero.config.samplers import SamplerError, sampling_chain
from arriero.config.schema import (
    AnyModelConfig,
    BiaserConfig,
    Config,
    ModelConfig,
    TaskConfig,
    socket_address,
)
from arriero.config.telemetry import telemetry_faults
from arriero.config.tls_checks import tls_faults
from arriero.config.weights import architecture_of, weights_fault

ORIGIN = re.compile(r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+")
VECTOR_STORES = "vector_stores"
RERANK = "/v1/rerank"
NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,128}")


def faults(config: Config) -> Iterator[Problem]:
    """Yield everything for which the configuration must be refused."""
    yield from _server(config)
    yield from tls_faults(config.server.tls)
    yield from auth_faults(config.auth)
    yield from telemetry_faults(config.telemetry)
    for kind, names in (("models", config.models), ("tasks", config.tasks), ("memories", config.memories)):
        for name in names:
            if not NAME.fullmatch(name) or name.startswith(".") or name != name.strip():
                yield Problem(
                    (kind, name), "a name has 1 to 128 characters, no / or \\, and begins with no dot"
                )
    for name, model in config.local_models.items():
        yield from _model(config, name, model)
    yield from remote_faults(config)
    for name, task in config.tasks.items():
        yield from _task(config, ("tasks", name), task)
    for name, memory in config.memories.items():
        yield from _memory(config, ("memories", name), memory)
    yield from _vector_stores(config)


def _server(config: Config) -> Iterator[Problem]:
    path = ("server", "bind_address")
    try:
        socket_address(config.server.bind_address)
    except ValueError as exc:
        yield Problem(path, str(exc))
        return
    auth = config.auth
    if not config.server.is_loopback and not (auth.public or auth.has_keys):
        message = "reachable from other machines but without keys; give allowed_keys, or write public = true"
        yield Problem(path, message)
    for index, origin in enumerate(config.server.allowed_origins or ()):
        if not ORIGIN.fullmatch(origin):
            place = ("server", "allowed_origins", index)
            yield Problem(place, 'expected an origin such as "https://example.org" (no path), or "*"')


def _model(config: Config, name: str, model: ModelConfig) -> Iterator[Problem]:
    path = ("models", name)
    yield from _architecture(path, model)
    yield from _weights(config, name, model)
    for index, adapter in enumerate(model.lora_adapters):
        if (fault := weights_fault(adapter)) is not None:
            yield Problem((*path, "lora_adapters", index), fault)
    if model.library is not None and not model.library.is_file():
        yield Problem((*path, "library"), f"there is no file {model.library}")
    if model.cache_tokens < model.context_size:
        message = f"less than one context of {model.context_size} tokens (context_size)"
        yield Problem((*path, "kv_cache_tokens"), message)


def _architecture(path: KeyPath, model: ModelConfig) -> Iterator[Problem]:
    name = model.architecture
    if name is None or name in ARCHITECTURES:
        return
    if name in CANNOT_LOAD:
        yield Problem((*path, "architecture"), f"{name}: {CANNOT_LOAD[name]}")
    elif model.library is None:
        near = hint(name, sorted(ARCHITECTURES), otherwise="; leave the key out to take what the file says")
        yield Problem((*path, "architecture"), f'unknown architecture "{name[:80]}"{near}')


def _weights(config: Config, name: str, model: ModelConfig) -> Iterator[Problem]:
    path = ("models", name)
    if model.package is not None:
        if model.model_path is not None or model.url is not None:
            yield Problem(
                (*path, "package"), "a package says where the weights are; take out model_path and url"
            )
        return
    if model.url is not None and (fault := _url_fault(model.url)) is not None:
        yield Problem((*path, "url"), fault)
    file = config.model_file(name)
    if file is None:
        yield Problem(path, "the model has no weights; give one of model_path, url, package")
    elif file.exists():
        source = (*path, "model_path" if model.model_path else "url")
        if (fault := weights_fault(file)) is not None:
            yield Problem(source, fault)
        elif (found := architecture_of(file)) in CANNOT_LOAD:
            yield Problem(source, f"{file} holds {found}: {CANNOT_LOAD[found]}")
        elif found and model.architecture and found != model.architecture:
            message = (
                f"is {model.architecture!r}, but {file} holds {found!r}; correct the key or leave it out"
            )
            yield Problem((*path, "architecture"), message)
    elif model.url is None:
        message = f"there is no file {file}; put the weights there, or give a url to fetch them from"
        yield Problem((*path, "model_path"), message)


def _url_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return None if usable else "expected an address such as https://example.org/model.gguf"


def _task(config: Config, path: KeyPath, task: TaskConfig) -> Iterator[Problem]:
    if task.model not in config.models:
        yield Problem((*path, "model"), _not_there("model", task.model, config.models))
    if task.memorization is not None and task.memorization.memory not in config.memories:
        message = _not_there("memory", task.memorization.memory, config.memories)
        yield Problem((*path, "memorization", "memory"), message)
    try:
        sampling_chain(task)
    except SamplerError as exc:
        entry = () if exc.entry is None else (exc.entry,)
        yield Problem((*path, "samplers", *entry), str(exc))
    if task.biaser is not None:
        yield from _biaser((*path, "biaser"), task.biaser)


def _biaser(path: KeyPath, biaser: BiaserConfig) -> Iterator[Problem]:
    """What the constraint says is checked by `tasks/constraint.py`, which knows its language."""
    keys = biaser.__struct_fields__
    if sum(getattr(biaser, key) is not None for key in keys) != 1:
        yield Problem(path, f"give exactly one of {', '.join(keys)}")


def _memory(config: Config, path: KeyPath, memory: MemoryConfig) -> Iterator[Problem]:
    if memory.embedding_model not in config.models:
        yield Problem((*path, "embedding_model"), _not_there("model", memory.embedding_model, config.models))
    stores = [store for store in (memory.store.embedded, memory.store.hora, memory.store.qdrant) if store]
    if len(stores) != 1:
        yield Problem((*path, "store"), "give exactly one of embedded, hora, qdrant")
    if memory.store.qdrant is not None and (fault := _url_fault(memory.store.qdrant.url)) is not None:
        yield Problem((*path, "store", "qdrant", "url"), fault)
    yield from _rerank(config, (*path, "rerank"), memory.rerank)
    for index, pattern in enumerate(memory.pre_filter):
        if (fault := _pattern_fault(pattern)) is not None:
            yield Problem((*path, "pre_filter", index), f"not a regular expression: {fault}")


def _vector_stores(config: Config) -> Iterator[Problem]:
    model = config.vector_stores.embedding_model
    if model is not None and model not in config.local_models:
        message = _not_there("model", model, config.local_models)
        yield Problem(("vector_stores", "embedding_model"), message)
    yield from _rerank(config, ("vector_stores", "rerank"), config.vector_stores.rerank)
    if VECTOR_STORES in config.memories:
        message = "grants use this name for the memories that callers make; take another"
        yield Problem(("memories", VECTOR_STORES), message)


def _rerank(config: Config, path: KeyPath, rerank: RerankConfig | None) -> Iterator[Problem]:
    if rerank is None:
        return
    model = config.models.get(rerank.model)
    if model is None:
        yield Problem((*path, "model"), _not_there("model", rerank.model, config.models))
    elif isinstance(model, ModelConfig):
        message = f'"{rerank.model[:80]}" runs here; name a remote model whose upstream answers {RERANK}'
        yield Problem((*path, "model"), message)
    elif RERANK not in model.routes:
        message = f"models.{rerank.model}.routes leaves {RERANK} out; add it there"
        yield Problem((*path, "model"), message)
    elif rerank.candidates > model.max_rerank_documents:
        allowed = f"models.{rerank.model}.max_rerank_documents allows {model.max_rerank_documents}"
        yield Problem((*path, "candidates"), f"{allowed} of one request")


def _pattern_fault(pattern: str) -> str | None:
    """Return why the pattern cannot be used. One of doubtful meaning is refused too (`[[a]`)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as exc:
        return str(exc)
    return None


def _not_there(kind: str, name: str, names: Mapping[str, AnyModelConfig | MemoryConfig]) -> str:
    near = hint(name, list(names), otherwise=f"; configured: {listed(names)}")
    return f'there is no {kind} "{name[:80]}"{near}'
