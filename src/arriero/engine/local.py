"""The async face of a local model: `core.Model` and `core.Embedder` over an engine process."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from arriero import errors
from arriero.core import Delta, Embeddings, GenerateRequest, ModelInfo, Span, Token
from arriero.engine import wire
from arriero.engine.supervisor import Supervisor
from arriero.engine.template import ChatTemplate
from arriero.errors import ArrieroError, EngineError

logger = logging.getLogger(__name__)

_REFUSALS: dict[str, type[ArrieroError]] = {
    cls.code: cls
    for cls in (errors.InvalidRequest, errors.ContextOverflow, errors.NotSupported, errors.EngineError)
}


class LocalModel:
    """One local model. All state is in its supervisor."""

    def __init__(self, name: str, supervisor: Supervisor) -> None:
        self._name = name
        self._supervisor = supervisor
        self._template: ChatTemplate | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def info(self) -> ModelInfo:
        return self._supervisor.info

    @property
    def stats(self) -> wire.EngineStats:
        """The engine's counters as of its last step."""
        return self._supervisor.stats

    @property
    def is_ready(self) -> bool:
        return self._supervisor.is_ready

    @property
    def state(self) -> str:
        """`ready`, `loading`, `restarting`, or `failed`, which is tried again."""
        return self._supervisor.state

    @property
    def problem(self) -> str | None:
        """Why the model cannot serve; None while it can."""
        return self._supervisor.problem

    def allow_silence(self, hang_s: float) -> None:
        """Say how long the busy engine process may give no sign of life."""
        self._supervisor.hang_s = hang_s

    def allow_crashes(self, most_crashes: int) -> None:
        """Say how often the engine process may end within a minute before it is left to rest."""
        self._supervisor.circuit.most_crashes = most_crashes

    def shrink(self) -> None:
        """Let the engine give up the idle prefixes that it keeps in main memory."""
        self._supervisor.tell(wire.Shrink())

    @property
    def has_open_circuit(self) -> bool:
        """Whether the engine process has ended too often, and has answered no request since."""
        return self._supervisor.circuit.is_open

    @property
    def restarts(self) -> int:
        """How often the engine process had to be started again."""
        return self._supervisor.restarts

    @property
    def pid(self) -> int | None:
        """The engine process, None while there is none."""
        return self._supervisor.pid

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream one completion; see `core.Model.generate`."""
        answer = _Answer()
        id = self._supervisor.request(lambda id: wire.Generate(id, request), answer)
        is_complete = False
        try:
            while not is_complete:
                delta = await answer.next()
                assert isinstance(delta, Delta)
                is_complete = delta.finish_reason is not None
                if is_complete:
                    self._supervisor.release(id)
                yield delta
        finally:
            if not is_complete:
                self._supervisor.abort(id)

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        """Return the tokens of a prompt; see `core.Model.tokenize`."""
        tokens: list[Token] = []
        async with self._asked(lambda id: wire.Tokenize(id, tuple(prompt), add_bos)) as answer:
            is_last = False
            while not is_last:
                report = await answer.next()
                assert isinstance(report, wire.Tokens)
                tokens += report.tokens
                is_last = report.is_last
        return tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; see `core.Model.detokenize`."""
        report = await self._ask(lambda id: wire.Detokenize(id, tuple(tokens)))
        assert isinstance(report, wire.Text)
        return report.text

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, normalize: bool | None = None
    ) -> Embeddings:
        """Embed texts or token lists; see `core.Embedder.embed`."""
        plain = tuple(x if isinstance(x, str) else tuple(x) for x in inputs)
        report = await self._ask(lambda id: wire.Embed(id, plain, normalize))
        assert isinstance(report, wire.Vectors)
        return Embeddings(report.vectors, report.prompt_tokens)

    @property
    def chat_stop_sequences(self) -> tuple[str, ...]:
        """Texts that end a chat answer when the model's template has no token for it."""
        return self._chat_template().stop_sequences

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
    ) -> tuple[Span, ...]:
        """Return the prompt for chat messages, by the model's own template; works in a thread.

        Raises InvalidRequest when the template refuses the messages, NotSupported when it is broken.
        """

        def render() -> tuple[Span, ...]:
            template = self._chat_template()
            return template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)

        return await asyncio.to_thread(render)

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            info = self.info
            self._template = ChatTemplate(info.chat_template, info.bos, info.eos, info.special_tokens)
            if self._template.problem:
                logger.warning("model %s: no chat by its template: %s", self.name, self._template.problem)
        return self._template

    async def _ask(self, make: Callable[[int], wire.Command]) -> wire.Report | Delta:
        """Send a command with a single answer and wait for it."""
        async with self._asked(make) as answer:
            return await answer.next()

    @asynccontextmanager
    async def _asked(self, make: Callable[[int], wire.Command]) -> AsyncIterator[_Answer]:
        """Send a command, whose answer is read in the block; nobody waiting stops the work."""
        answer = _Answer()
        id = self._supervisor.request(make, answer)
        try:
            yield answer
        except BaseException:
            self._supervisor.abort(id)
            raise
        self._supervisor.release(id)


class _Answer:
    """What came for one request. A request has at most as many reports as its context has tokens.

    One reader, which is woken at once: a queue of the library takes three times as many calls for each token.
    """

    __slots__ = ("_reports", "_waiter")

    def __init__(self) -> None:
        self._reports: deque[wire.Report | Delta | ArrieroError] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, report: wire.Report | Delta | ArrieroError) -> None:
        self._reports.append(report)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> wire.Report | Delta:
        """Return the next report; raise what the engine refused the request with."""
        while not self._reports:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        report = self._reports.popleft()
        if type(report) is Delta:
            return report
        if isinstance(report, wire.Refused):
            raise _refusal(report.code, report.message, report.param)
        if isinstance(report, ArrieroError):
            raise report
        return report


def _refusal(code: str, message: str, param: str | None) -> ArrieroError:
    kind = _REFUSALS.get(code, EngineError)
    if issubclass(kind, errors.RequestError):
        return kind(message, param=param)
    return kind(message)
