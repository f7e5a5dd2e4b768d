"""The composition root: a Config becomes running models and tasks, and is taken down in reverse.

Weights are fetched one after the other, then all models load side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from arriero.catalogue.progress import Progress, silent
from arriero.catalogue.resolve import resolve_weights
from arriero.config.remote import RemoteModelConfig
from arriero.config.schema import Config, ModelConfig, TaskConfig
from arriero.core import Constraint, Embedder, Model
from arriero.engine.current import Current
from arriero.engine.local import LocalModel
from arriero.engine.settings import engine_config
from arriero.engine.supervisor import Supervisor
from arriero.engine.template_files import directory_template
from arriero.engine.wire import EngineConfig
from arriero.errors import ConfigError
from arriero.guard.countable import Conversation
from arriero.guard.counting import LocalCounter
from arriero.guard.forward import Guard
from arriero.guard.pokt_source import PoktSource, open_source
from arriero.guard.reranker import RemoteReranker
from arriero.guard.tokens import TokenCounter
from arriero.memory.embedding import identity_of
from arriero.memory.library.door import Door, open_door
from arriero.memory.memory import Memory
from arriero.memory.open import check_templates, open_memory
from arriero.memory.recall import Recall
from arriero.tasks.checks import task_constraints
from arriero.tasks.remote import RemoteModel
from arriero.tasks.task import Task

T = TypeVar("T")


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


@dataclass
class _Piece:
    key: object
    value: Any
    opened: AbstractAsyncContextManager[Any]
    num_users: int = 0


class Pieces:
    """What the runtimes of one process are made of, each under all that it was made from.

    A piece that two runtimes have in common is opened once, and closed with the last of them.
    """

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self.embedders: dict[str, Current] = {}
        """By their names in the configuration, as of the newest runtime."""
        self.memories: dict[str, Memory] = {}
        """Of the newest runtime."""
        self.rerankers: dict[str, RemoteReranker] = {}
        """Remote models by their names in the configuration, as of the newest runtime."""

    @asynccontextmanager
    async def held(
        self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[T]:
        """Give the piece of this key while the block runs; it is opened if it is not there."""
        piece = next((piece for piece in self._pieces if piece.key == key), None)
        if piece is None:
            opened = opening()
            piece = _Piece(key, await opened.__aenter__(), opened)
            self._pieces.append(piece)
        piece.num_users += 1
        try:
            yield piece.value
        finally:
            piece.num_users -= 1
            if not piece.num_users:
                self._pieces.remove(piece)
                await piece.opened.__aexit__(None, None, None)

    @contextmanager
    def embedding(self, models: Mapping[str, LocalModel]) -> Iterator[Mapping[str, Current]]:
        """Let these models make the vectors from now on; if the block fails, all is as before."""
        before = {name: current.model for name, current in self.embedders.items()}
        memories = dict(self.memories)
        self._embed_with(models)
        try:
            yield self.embedders
        except BaseException:
            self._embed_with(before)
            self._remember(memories)
            raise

    def _embed_with(self, models: Mapping[str, LocalModel]) -> None:
        for name in self.embedders.keys() - models.keys():
            del self.embedders[name]
        for name, model in models.items():
            self.embedders.setdefault(name, Current(model)).model = model

    def adopt(
        self, config: Config, memories: Mapping[str, Memory], rerankers: Mapping[str, RemoteReranker]
    ) -> None:
        """Make a configuration the newest one."""
        self.rerankers.clear()
        self.rerankers.update(rerankers)
        for name, memory in memories.items():
            if memory.config != config.memories[name]:
                memory.adopt(config.memories[name])
        self._remember(memories)

    def _remember(self, memories: Mapping[str, Memory]) -> None:
        self.memories.clear()
        self.memories.update(memories)


@asynccontextmanager
async def open_runtime(
    config: Config, progress: Progress = silent, pieces: Pieces | None = None
) -> AsyncIterator[Runtime]:
    """Fetch, load and start everything that a configuration names, but for what runs already.

    pieces: what other runtimes of this process are made of; what is equal is shared with them.
    Raises ConfigError when a task asks what cannot be done, before anything is fetched, and ConfigError or
    Unavailable when a model cannot be had or loaded; nothing is left running then that was not before.
    `progress` is called from several threads.
    """
    pieces = pieces or Pieces()
    constraints = await asyncio.to_thread(task_constraints, config)
    check_templates(config)
    async with AsyncExitStack() as stack:
        weights = await _resolved(config, pieces, stack, progress)
        models = await _models(config, pieces, stack, weights, progress)
        guarded = await _guards(config, pieces, stack)
        pokt = await stack.enter_async_context(
            pieces.held(_pokt_key(config), lambda: _pokt(config, weights, guarded))
        )
        with pieces.embedding(models) as embedders:
            memories = await _memories(config, pieces, stack, embedders)
            pieces.memories |= memories
            door = await stack.enter_async_context(
                pieces.held(
                    ("door", config.vector_stores, config.serves_vector_stores, config.cache_path),
                    lambda: open_door(config, embedders, pieces.memories, pieces.rerankers),
                )
            )
            tasks = {
                name: await stack.enter_async_context(
                    pieces.held(
                        _task_key(config, name, models, guarded, memories, constraints.get(name)),
                        partial(_task, config, name, constraints.get(name), models, guarded, memories),
                    )
                )
                for name in config.tasks
            }
            pieces.adopt(config, memories, _rerankers(config, guarded))
        served = {model.name: model for model in models.values()}
        yield Runtime(config, served, guarded, tasks, door, pokt, memories)


async def _resolved(
    config: Config, pieces: Pieces, stack: AsyncExitStack, progress: Progress
) -> dict[str, Path]:
    """Return the files of the local models, fetched one after the other."""

    @asynccontextmanager
    async def resolved(name: str, model: ModelConfig) -> AsyncIterator[Path]:
        yield await asyncio.to_thread(resolve_weights, name, model, config.cache_path, progress)

    return {
        name: await stack.enter_async_context(
            pieces.held(("weights", name, model, config.cache_path), partial(resolved, name, model))
        )
        for name, model in config.local_models.items()
    }


async def _models(
    config: Config,
    pieces: Pieces,
    stack: AsyncExitStack,
    weights: Mapping[str, Path],
    progress: Progress,
) -> dict[str, LocalModel]:
    """Start all models side by side; raise the first failure once all have come to an end."""

    hang_s = config.limits.engine_hang_s

    async def started(name: str, model: ModelConfig) -> LocalModel:
        engine = engine_config(config.public_name(name), model, weights[name], cache_path=config.cache_path)
        running = pieces.held(
            ("model", name, model, engine), lambda: _running(name, engine, hang_s, progress)
        )
        local = await stack.enter_async_context(running)
        local.allow_silence(hang_s)  # one that runs already may have begun with another
        local.allow_crashes(config.limits.engine_crashes)
        return local

    names = list(config.local_models)
    results = await asyncio.gather(
        *(started(name, config.local_models[name]) for name in names), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return {name: model for name, model in zip(names, results, strict=True) if isinstance(model, LocalModel)}


@asynccontextmanager
async def _running(
    name: str, engine: EngineConfig, hang_s: float, progress: Progress
) -> AsyncIterator[LocalModel]:
    supervisor = Supervisor(engine, on_progress=_loading(name, progress), hang_s=hang_s)
    try:
        await supervisor.start()
        yield LocalModel(engine.name, supervisor)
    except ConfigError as exc:
        # The engine process knows the model by its public name at best.
        raise ConfigError(f"models.{name}: {exc.message}") from exc
    finally:
        await supervisor.stop()


async def _guards(config: Config, pieces: Pieces, stack: AsyncExitStack) -> dict[str, Guard]:
    """Return the remote models by their public names."""
    max_body_bytes = config.server.max_body_bytes
    guards = [
        await stack.enter_async_context(
            pieces.held(
                ("guard", name, model, max_body_bytes), partial(_guarding, name, model, max_body_bytes)
            )
        )
        for name, model in config.remote_models.items()
    ]
    return {guard.policy.public_name: guard for guard in guards}


def _pokt_key(config: Config) -> tuple[object, ...]:
    name = config.pokt_model
    model = None if name is None else config.models[name]
    return ("pokt", config.pokt, name, model, config.server.max_body_bytes, config.cache_path)


@asynccontextmanager
async def _pokt(
    config: Config, weights: Mapping[str, Path], guards: Mapping[str, Guard]
) -> AsyncIterator[PoktSource | None]:
    source = await open_source(config, weights=weights, guards=guards)
    try:
        yield source
    finally:
        if source is not None:
            await source.stop()


async def _memories(
    config: Config, pieces: Pieces, stack: AsyncExitStack, embedders: Mapping[str, Embedder]
) -> dict[str, Memory]:
    """Open the memories. One that is open already may get another configuration, later, by `adopt`."""
    memories = {}
    for name, settings in config.memories.items():
        key = ("memory", name, settings.store, settings.embedding_model, config.cache_path)
        opening = partial(open_memory, name, settings, embedders, config.cache_path, pieces.rerankers)
        memory = await stack.enter_async_context(pieces.held(key, opening))
        if memory.store.identity != identity_of(embedders[settings.embedding_model]):
            raise ConfigError(
                f"memories.{name}: it is open with vectors of another model than {settings.embedding_model}"
                " is now; this needs a start"
            )
        memories[name] = memory
    return memories


def _rerankers(config: Config, guards: Mapping[str, Guard]) -> dict[str, RemoteReranker]:
    return {name: RemoteReranker(guards[config.public_name(name)]) for name in config.remote_models}


def _task_key(
    config: Config,
    name: str,
    models: Mapping[str, LocalModel],
    guards: Mapping[str, Guard],
    memories: Mapping[str, Memory],
    constraint: Constraint | None,
) -> tuple[object, ...]:
    task = config.tasks[name]
    model = models.get(task.model) or guards[config.public_name(task.model)]
    memory = None if task.memorization is None else memories[task.memorization.memory]
    return ("task", name, _within_model(config, task), config.models[task.model], constraint, model, memory)


@asynccontextmanager
async def _task(
    config: Config,
    name: str,
    constraint: Constraint | None,
    models: Mapping[str, LocalModel],
    guards: Mapping[str, Guard],
    memories: Mapping[str, Memory],
) -> AsyncIterator[Task]:
    task = config.tasks[name]
    model = _task_model(config, task, models, guards)
    yield Task(
        name,
        _within_model(config, task),
        model,
        constraint=constraint,
        recall=_recall(task, memories, model),
        threads_per_session=config.threads(task.model),
    )


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


def _loading(name: str, progress: Progress) -> Callable[[float], None]:
    def report(fraction: float) -> None:
        progress(f"loading {name}", round(100 * fraction), 100)

    return report
