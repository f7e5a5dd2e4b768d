"""Where the documents of `/pokt/*` come from, for the one model that they speak of; each is made once.

A directory is read at the start, so that its faults are told then. A GGUF file takes seconds, so it is
read in a thread when its documents are first asked for. An upstream is asked then too, and again for as
long as it has no answer. Owns what was made.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from arriero.config.remote import RemoteModelConfig
from arriero.errors import ConfigError, UnknownName
from arriero.guard.failure import UpstreamTimeout
from arriero.guard.pokt import (
    NAMES,
    UPSTREAM_CONFIG,
    UPSTREAM_TOKENIZER,
    PoktDocuments,
    directory_config,
    directory_tokenizer,
    hidden_config,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from arriero.config.schema import Config
    from arriero.guard.forward import Guard

    Make = Callable[[], Awaitable[PoktDocuments]]

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNUSABLE = "the files of the model cannot be used; the server's log says why"
ASK_S = 30.0
"""How long an upstream may take over one document."""


class Once(Generic[T]):
    """A value that one job makes, however many ask for it. A failure is told to them and not kept."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._job: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """Return the value. Raises whatever making it raised."""
        job = self._job
        if job is None or (job.done() and (job.cancelled() or job.exception() is not None)):
            job = self._job = asyncio.ensure_future(self._make())
        return await asyncio.shield(job)  # who leaves must not end the work of the others

    async def stop(self) -> None:
        """End the work if it is under way."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)


class PoktSource:
    """What `/pokt/*` answers for `model`, a public name."""

    def __init__(self, model: str, config: Once[PoktDocuments], tokenizer: Once[PoktDocuments]) -> None:
        self.model = model
        self._config = config
        self._tokenizer = tokenizer

    async def answer(self, name: str) -> bytes:
        """Return the body of `/pokt/NAME`.

        Raises UnknownName with the reason why there is none, and what `Guard.get` raises.
        """
        if name not in NAMES:
            raise UnknownName("document", name[:80])
        made = self._config if name.startswith("config") else self._tokenizer
        return (await made.get()).answer(name)

    async def stop(self) -> None:
        """End what is under way."""
        await self._config.stop()
        await self._tokenizer.stop()


async def open_source(
    config: Config, *, weights: Mapping[str, Path], guards: Mapping[str, Guard]
) -> PoktSource | None:
    """Return the source of a configuration; None when it does not say of which model.

    weights: the files of the local models. guards: the remote models by their public names.
    Raises ConfigError for a faulty directory, if [pokt] names its model.
    """
    name = config.pokt_model
    if name is None:
        return None
    model = config.models[name]
    public_name = model.public_name or name
    if isinstance(model, RemoteModelConfig):
        return await _remote_source(config, model, guards[public_name])
    hidden = hidden_config(public_name, model.context_size) if config.pokt.reveal_config is False else None
    read = partial(PoktDocuments.from_gguf, weights[name], max_context=model.context_size, config=hidden)
    made = Once(partial(_in_thread, read))
    return PoktSource(public_name, made, made)


async def _remote_source(config: Config, model: RemoteModelConfig, guard: Guard) -> PoktSource:
    directory, is_named = model.tokenizer_path, config.pokt.model is not None
    own_config = Once(partial(_upstream_config, guard, model))
    tokenizer = Once(partial(_upstream_tokenizer, guard, model))
    if directory is not None and config.pokt.reveal_config:
        own_config = await _kept(lambda: PoktDocuments(directory_config(directory), None), is_named)
    if directory is not None:
        tokenizer = await _kept(lambda: PoktDocuments(None, directory_tokenizer(directory)), is_named)
    return PoktSource(guard.policy.public_name, own_config, tokenizer)


async def _kept(read: Callable[[], PoktDocuments], is_named: bool) -> Once[PoktDocuments]:
    """Read files now. Raises ConfigError for faults if the operator has asked for the documents."""
    made = Once(partial(asyncio.to_thread, read) if is_named else partial(_in_thread, read))
    await made.get()
    return made


async def _in_thread(read: Callable[[], PoktDocuments]) -> PoktDocuments:
    """Read files; what is wrong with them is for the log, and callers learn that there are no documents."""
    try:
        return await asyncio.to_thread(read)
    except ConfigError as exc:
        logger.warning("/pokt/* cannot be served: %s", exc)
        return PoktDocuments(None, None, dict.fromkeys(("config", "tokenizer"), UNUSABLE))


async def _upstream_config(guard: Guard, model: RemoteModelConfig) -> PoktDocuments:
    documents = _told(guard, model, {})
    if documents.config is None:
        documents = _told(guard, model, await _asked(guard, UPSTREAM_CONFIG))
    documents.answer("config")  # what the upstream does not have is not kept
    return documents


async def _upstream_tokenizer(guard: Guard, model: RemoteModelConfig) -> PoktDocuments:
    answers = await _asked(guard, UPSTREAM_TOKENIZER)
    documents = await asyncio.to_thread(_told, guard, model, answers)
    documents.answer("tokenizer")
    return documents


async def _asked(guard: Guard, path: str) -> dict[str, bytes]:
    try:
        async with asyncio.timeout(ASK_S):
            body = await guard.get(path)
    except TimeoutError as exc:
        raise UpstreamTimeout("the upstream did not answer in time") from exc
    return {} if body is None else {path: body}


def _told(guard: Guard, model: RemoteModelConfig, answers: Mapping[str, bytes]) -> PoktDocuments:
    return PoktDocuments.from_upstream(
        answers,
        upstream_model=model.upstream.model,
        public_name=guard.policy.public_name,
        max_context=model.max_context,
    )
