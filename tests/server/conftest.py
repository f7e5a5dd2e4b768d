"""A server on a real socket over models that say what they are told to say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import numpy as np
import openai
import pytest

from arriero.config.load import parse_config
from arriero.core import Embeddings, Span, TokenLogprob
from arriero.engine.template import ChatTemplate
from arriero.errors import InvalidRequest
from arriero.guard.forward import Guard
from arriero.guard.pokt_source import PoktSource, open_source
from arriero.server.serve import edge_of
from arriero.tasks.remote import RemoteModel
from arriero.tasks.task import Task
from arriero.testing.echo import BOS, EchoModel
from arriero.testing.serving import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from arriero.config.schema import Config
    from arriero.core import Delta, GenerateRequest
    from arriero.memory.memory import Memory

CONFIG = """
[auth]
allowed_keys = ["sesame", "other"]
[models.m]
url = "http://127.0.0.1:1/m.gguf"
[models.other]
url = "http://127.0.0.1:1/other.gguf"
[tasks.t]
model = "m"
prefix = "<"
postfix = ">"
private_tokens = ["|secret|"]
"""

VECTOR = [0.5, -1.0, 0.25, 3.0]


class ScriptedModel(EchoModel):
    """An EchoModel that also chats, embeds and tells log probabilities, and can be held up.

    hold_at: the number of deltas after which a completion waits for `go`.
    held, closed: set when a completion waits; when one was ended before its last delta.
    """

    def __init__(
        self, *replies: str | Exception, name: str = "m", hold_at: int | None = None, context_size: int = 4096
    ) -> None:
        super().__init__(*replies, name=name, context_size=context_size)
        self.info = msgspec.structs.replace(self.info, embedding_size=len(VECTOR))
        self.is_ready = True
        self.stats = {"steps": 3}
        self.chat_stop_sequences = ("<stop>",)
        self.held = asyncio.Event()
        self.go = asyncio.Event()
        self.closed = asyncio.Event()
        self.embedded: list[Any] = []
        self.num_shrunk = 0
        self._hold_at = hold_at

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        count, is_complete = 0, False
        try:
            async with aclosing(super().generate(request)) as deltas:
                async for delta in deltas:
                    if count == self._hold_at:
                        self.held.set()
                        await self.go.wait()
                    is_complete = delta.finish_reason is not None
                    yield self._with_logprobs(request, delta, is_first=count == 0)
                    count += 1
                    await asyncio.sleep(0)  # a real model never answers without waiting
        finally:
            if not is_complete:
                self.closed.set()

    def _with_logprobs(self, request: GenerateRequest, delta: Delta, *, is_first: bool) -> Delta:
        if request.logprobs is None:
            return delta
        prompt = self._prompt_tokens(request.prompt, add_bos=request.add_bos)
        echoed = prompt if is_first and request.prompt_logprobs else ()
        tokens = [self._logprob(token, None if i == 0 else -2.0) for i, token in enumerate(echoed)]
        tokens += [self._logprob(token, -0.5) for token in delta.text.encode()]
        return msgspec.structs.replace(delta, logprobs=tuple(tokens))

    def _logprob(self, token: int, logprob: float | None) -> TokenLogprob:
        data = b"" if token == BOS else bytes([token])
        return TokenLogprob(token, data, logprob, ((120, b"x", -0.25), (121, b"y", -3.0)))

    def shrink(self) -> None:
        self.num_shrunk += 1

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
    ) -> tuple[Span, ...]:
        template = ChatTemplate(None, "<bos>", "<eos>", ())
        return template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, normalize: bool | None = None
    ) -> Embeddings:
        if "" in inputs:
            raise InvalidRequest("an empty text has no embedding", param="input")
        self.embedded.extend(inputs)
        vector = np.array(VECTOR, dtype="<f4").tobytes()
        return Embeddings(tuple(vector for _ in inputs), sum(len(one) for one in inputs))


@dataclass(frozen=True)
class Stage:
    """What the server under test serves."""

    config: Config
    models: Mapping[str, ScriptedModel]
    tasks: Mapping[str, Task]
    guards: Mapping[str, Guard] = field(default_factory=dict)
    pokt: PoktSource | None = None
    memories: Mapping[str, Memory] = field(default_factory=dict)


def staged(model: ScriptedModel, extra: str = "", *, public: bool = False) -> Stage:
    """Return a runtime with models `m` (the given one), `other` and those of `extra`, and task `t` on `m`."""
    text = CONFIG.replace("[auth]", f"[auth]\npublic = {str(public).lower()}") + extra
    config = parse_config(text, {})
    named = {name: ScriptedModel("Hello", name=config.public_name(name)) for name in config.local_models}
    named["m"] = model
    models = {model.name: model for model in named.values()}
    max_body_bytes = config.server.max_body_bytes
    guards = {
        model.public_name or name: Guard.from_config(name, model, max_body_bytes=max_body_bytes)
        for name, model in config.remote_models.items()
    }
    remote = {
        name: RemoteModel(guards[config.public_name(name)], form="chat") for name in config.remote_models
    }
    tasks = {name: Task(name, task, (named | remote)[task.model]) for name, task in config.tasks.items()}
    return Stage(config, models, tasks, guards)


@asynccontextmanager
async def served(stage: Stage) -> AsyncIterator[str]:
    """Serve a runtime with the product's own settings while the block runs; gives the URL."""
    edge = edge_of(stage)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await edge.start(listener)
        try:
            yield url
        finally:
            await edge.stop(0)


Serving = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def serving() -> Serving:
    """Serve a model and give a client that bears a key: `async with serving(model) as client`."""

    @asynccontextmanager
    async def serve(
        model: ScriptedModel | None = None, extra: str = "", *, public: bool = False
    ) -> AsyncIterator[httpx2.AsyncClient]:
        stage = staged(model or ScriptedModel("Hello"), extra, public=public)
        source = await open_source(stage.config, weights={}, guards=stage.guards)
        stage = replace(stage, pokt=source)
        headers = {"authorization": "Bearer sesame"}
        async with (
            served(stage) as url,
            client_of(url, headers=headers) as client,
        ):
            yield client
            for guard in stage.guards.values():
                await guard.stop()

    return serve


def official_client(client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """Return OpenAI's own client of the same server; it repeats nothing."""
    url = f"{client.base_url}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key="sesame", max_retries=0, http_client=client_of(url))


@pytest.fixture
def model_saying() -> Callable[..., ScriptedModel]:
    """Make a scripted model."""
    return ScriptedModel


@pytest.fixture
def address_of() -> Callable[[httpx2.AsyncClient], tuple[str, int]]:
    """Tell host and port of the server behind a client."""

    def address(client: httpx2.AsyncClient) -> tuple[str, int]:
        return client.base_url.host, int(client.base_url.port or 0)

    return address


@pytest.fixture
def events_of() -> Callable[[str], list[Any]]:
    """Read the JSON of OpenAI's events; `[DONE]` stays text."""

    def events(body: str) -> list[Any]:
        lines: Iterable[str] = body.removesuffix("\n\n").split("\n\n")
        texts = [line.removeprefix("data: ") for line in lines if not line.startswith(":")]
        return [text if text == "[DONE]" else msgspec.json.decode(text) for text in texts]

    return events
