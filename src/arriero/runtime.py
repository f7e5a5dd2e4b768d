"""The composition root: a Config becomes running models and tasks, and is taken down in reverse.

Weights are fetched one after the other, then all models load side by side.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from arriero.catalogue.progress import Progress, silent
from arriero.catalogue.resolve import resolve_weights
from arriero.config.remote import RemoteModelConfig
from arriero.config.schema import Config, ModelConfig, TaskConfig
from arriero.core import Model
from arriero.engine.build import native_library
from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.template_files import directory_template
from arriero.engine.wire import EngineConfig
from arriero.guard.countable import Conversation
from arriero.guard.counting import LocalCounter
from arriero.guard.forward import Guard
from arriero.guard.pokt_source import PoktSource, open_source
from arriero.guard.tokens import TokenCounter
from arriero.memory.library.door import Door, open_door
from arriero.memory.memory import Memory
from arriero.memory.open import open_memories
from arriero.memory.recall import Recall
from arriero.tasks.checks import task_constraints
from arriero.tasks.remote import RemoteModel
from arriero.tasks.task import Task


@dataclass(frozen=True)
class Runtime:
    """What is being served. Owned by `open_runtime`."""

    config: Config
    models: Mapping[str, LocalModel]
    """The models that run here, by their public names."""
    guards: Mapping[str, Guard]
    """The remote models, by their public names."""
    tasks: Mapping[str, Task]
    door: Door
    """The way to the files and memories of callers."""
    pokt: PoktSource | None = None
    """What `/pokt/*` answers."""
    memories: Mapping[str, Memory] = field(default_factory=dict)


@asynccontextmanager
async def open_runtime(config: Config, progress: Progress = silent) -> AsyncIterator[Runtime]:
    """Fetch, load and start everything that a configuration names.

    Raises ConfigError when a task asks what cannot be done, before anything is fetched, and ConfigError or
    Unavailable when a model cannot be had or loaded; nothing is left running then.
    `progress` is called from several threads.
    """
    constraints = await asyncio.to_thread(task_constraints, config)
    async with AsyncExitStack() as stack:
        weights = {
            name: await asyncio.to_thread(resolve_weights, name, model, config.cache_path, progress)
            for name, model in config.local_models.items()
        }
        supervisors = {
            name: Supervisor(
                engine_config(config.public_name(name), model, weights[name], cache_path=config.cache_path),
                on_progress=_loading(name, progress),
            )
            for name, model in config.local_models.items()
        }
        for supervisor in supervisors.values():
            stack.push_async_callback(supervisor.stop)
        await _start_all(supervisors)
        guards = [
            await stack.enter_async_context(_guarding(name, model, config.server.max_body_bytes))
            for name, model in config.remote_models.items()
        ]
        guarded = {guard.policy.public_name: guard for guard in guards}
        pokt = await open_source(config, weights=weights, guards=guarded)
        if pokt is not None:
            stack.push_async_callback(pokt.stop)
        models = {name: LocalModel(config.public_name(name), sup) for name, sup in supervisors.items()}
        memories = await stack.enter_async_context(open_memories(config, models))
        door = await stack.enter_async_context(open_door(config, models, memories))
        task_models = {
            name: _task_model(config, task, models, guarded) for name, task in config.tasks.items()
        }
        tasks = {
            name: Task(
                name,
                _within_model(config, task),
                task_models[name],
                constraint=constraints.get(name),
                recall=_recall(task, memories, task_models[name]),
                threads_per_session=config.threads(task.model),
            )
            for name, task in config.tasks.items()
        }
        served = {model.name: model for model in models.values()}
        yield Runtime(config, served, guarded, tasks, door, pokt, memories)


def _task_model(
    config: Config, task: TaskConfig, models: Mapping[str, LocalModel], guards: Mapping[str, Guard]
) -> Model:
    """Return the model of a task; one that runs elsewhere goes through its guard."""
    model = config.models[task.model]
    if isinstance(model, ModelConfig):
        return models[task.model]
    return RemoteModel(
        guards[config.public_name(task.model)],
        form=task.form or "completion",
        dialect=model.upstream.dialect,
        end_token=model.end_token or "",
    )


def _recall(task: TaskConfig, memories: Mapping[str, Memory], model: Model) -> Recall | None:
    """Return a task's use of a memory, if it names one."""
    held = task.memorization
    return None if held is None else Recall(memories[held.memory], held, model)


def _within_model(config: Config, task: TaskConfig) -> TaskConfig:
    """Return the task with no more tokens than its model gives anybody."""
    limits = [limit for limit in (task.max_tokens, config.models[task.model].max_tokens) if limit is not None]
    return msgspec.structs.replace(task, max_tokens=min(limits, default=None))


@asynccontextmanager
async def _guarding(name: str, model: RemoteModelConfig, max_body_bytes: int) -> AsyncIterator[Guard]:
    """Guard a remote model while the block runs."""
    async with AsyncExitStack() as stack:
        count = None
        if model.tokenizer_path is not None:
            counter, chats = await asyncio.to_thread(_counter, model.tokenizer_path)
            stack.callback(counter.close)
            count = LocalCounter(counter, chats=chats).count
        guard = Guard.from_config(name, model, max_body_bytes=max_body_bytes, count=count)
        guard.start()
        stack.push_async_callback(guard.stop)
        yield guard


def _counter(directory: Path) -> tuple[TokenCounter, bool]:
    """Return the counter of a model directory, and whether it can render chats. Raises ConfigError."""
    template = directory_template(directory)

    def render(chat: Conversation) -> str:
        assert template is not None
        return "".join(span.text for span in template.render(chat.messages, **chat.variables))

    return TokenCounter.from_directory(directory, render), template is not None


def engine_config(name: str, model: ModelConfig, weights: Path, *, cache_path: Path) -> EngineConfig:
    """Return what the engine process of a model is told."""
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
        gpu_layers=_gpu_layers(model),
        architecture=model.architecture,
        lora_adapters=tuple(map(str, model.lora_adapters)),
        pooling=model.pooling,
        normalize=model.normalize,
        chat_template=model.chat_template,
    )


async def _start_all(supervisors: Mapping[str, Supervisor]) -> None:
    """Start all side by side; raise the first failure once all have come to an end."""
    results = await asyncio.gather(*(s.start() for s in supervisors.values()), return_exceptions=True)
    for result in results:
        if result is not None:
            raise result


def _loading(name: str, progress: Progress) -> Callable[[float], None]:
    def report(fraction: float) -> None:
        progress(f"loading {name}", round(100 * fraction), 100)

    return report


def _gpu_layers(model: ModelConfig) -> int:
    if not model.use_gpu:
        return 0
    return -1 if model.gpu_layers is None else model.gpu_layers


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
