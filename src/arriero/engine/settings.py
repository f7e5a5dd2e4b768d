"""What a configuration says of a local model, as its engine process is told it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from arriero.engine.build import native_library
from arriero.engine.wire import EngineConfig

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.config.schema import ModelConfig


def engine_config(name: str, model: ModelConfig, weights: Path, *, cache_path: Path) -> EngineConfig:
    """Return what the engine process of a model is told. name: the public one."""
    native = None if model.library else native_library(cache_path)
    return EngineConfig(
        name=name,
        path=str(weights),
        library=str(model.library) if model.library else None,
        native_library=str(native) if native else None,
        context_size=model.context_size,
        cells=max(model.cache_tokens, model.context_size),
        batch_size=model.batch_size,
        max_sequences=model.max_sequences,
        threads=min(model.threads_per_session, _num_cores()),
        stored_bytes=model.prefix_store_bytes,
        gpu_layers=_gpu_layers(model),
        architecture=model.architecture,
        lora_adapters=tuple(map(str, model.lora_adapters)),
        pooling=model.pooling,
        normalize=model.normalize,
        chat_template=model.chat_template,
    )


def _gpu_layers(model: ModelConfig) -> int:
    if not model.use_gpu:
        return 0
    return -1 if model.gpu_layers is None else model.gpu_layers


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
