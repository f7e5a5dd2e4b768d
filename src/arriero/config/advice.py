"""What a configuration says that is allowed, but probably not what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from arriero.config.auth_checks import auth_warnings
from arriero.config.locate import KeyPath
from arriero.config.problem import Problem
from arriero.config.samplers import STANDARD_KEYS
from arriero.config.schema import Config, ModelConfig, TaskConfig
from arriero.config.tls_checks import tls_warnings

SLOW_BATCH = 32


def warnings(config: Config, document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the warnings. `document` is what the user wrote, without defaults."""
    if not config.models:
        yield Problem((), "no models are configured")
    yield from auth_warnings(config.auth, is_loopback=config.server.is_loopback)
    yield from tls_warnings(config.server.tls)
    for name, model in config.local_models.items():
        yield from _model(("models", name), model)
    for name, task in config.tasks.items():
        yield from _task(config, ("tasks", name), task, document["tasks"][name])
    for name, memory in config.memories.items():
        context = config.longest_context(memory.embedding_model)
        if context is not None and (memory.chunk_max_tokens or 0) > context:
            message = f"longer than the embedding model's context of {context} tokens; chunks will be shorter"
            yield Problem(("memories", name, "chunk_max_tokens"), message)


def _model(path: KeyPath, model: ModelConfig) -> Iterator[Problem]:
    if model.gpu_layers is not None and not model.use_gpu:
        yield Problem((*path, "gpu_layers"), "no effect without use_gpu = true")
    if model.batch_size < SLOW_BATCH:
        message = f"prompts are evaluated {model.batch_size} tokens at a time; leave the key out for speed"
        yield Problem((*path, "batch_size"), message)
    if model.url is not None and model.sha256 is None:
        yield Problem((*path, "url"), "the download is not checked; give its sha256")


def _task(config: Config, path: KeyPath, task: TaskConfig, written: Mapping[str, Any]) -> Iterator[Problem]:
    if task.samplers is not None:
        for key in STANDARD_KEYS:
            if key in written:
                yield Problem((*path, key), "no effect beside samplers; write it as a sampler")
    context = config.longest_context(task.model)
    if context is not None and task.max_tokens is not None and task.max_tokens >= context:
        key = "context_size" if task.model in config.local_models else "max_context"
        message = f"never reached: the model's {key} is {context} tokens, prompt included"
        yield Problem((*path, "max_tokens"), message)
    yield from _phases(path, task)


def _phases(path: KeyPath, task: TaskConfig) -> Iterator[Problem]:
    """Yield doubts about a hidden answer, a bias prompt and the answer that is returned."""
    if task.biaser is not None and task.stop_sequences and not task.bias_prompt:
        yield Problem((*path, "stop_sequences"), "no effect beside a biaser without a bias_prompt")
    if task.bias_prompt and task.biaser is None:
        yield Problem((*path, "bias_prompt"), "without a biaser the answer after it is free too")
    if task.bias_prompt and task.max_tokens is None:
        message = "the free answer before it may fill the context; give max_tokens, which bounds both"
        yield Problem((*path, "bias_prompt"), message)
    if task.show_hidden and not task.bias_prompt:
        yield Problem((*path, "show_hidden"), "no effect without a bias_prompt: nothing is hidden")
