"""No single request holds up the others: how long the server is silent while it answers the heaviest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.tiny import Engines, tiny_engines

if TYPE_CHECKING:
    import httpx2
    from tests.abuse.figures import Figures
    from tests.abuse.subject import Subject

MIB = 2**20
ROOM = 4 * MIB - 1000
LONGEST_S = 1.0
"""The machine does other work, and the time to look is in it."""
MOST_WORK_S = 0.2
"""Of the server in the time of a look. The plan says 0.05 s in one go; a look waits for several turns of the
loop, and for threads that take turns with it."""
PAUSE_S = 0.005
DEADLINE_S = 240.0
MESSAGE = {"role": "user", "content": "x"}
WORDS = ("a ship sails on the sea and the cat sat there " * (ROOM // 46))[:ROOM]
CHAT = {"model": "right", "messages": [MESSAGE], "max_tokens": 1}
SMALL_OBJECTS = {**CHAT, "user_data": {f"k{number}": [1, {"a": None}] for number in range(150_000)}}
MANY_MEMBERS = {**CHAT, **{f"k{number}": 1 for number in range(250_000)}}
LOGPROBS = {
    "model": "long",
    "ignore_eos": True,
    "max_tokens": 4000,
    "logprobs": True,
    "top_logprobs": 20,
}
PROMPT_LOGPROBS = {"model": "long", "prompt": [5] * 2000, "echo": True, "logprobs": 20, "max_tokens": 1}
HEAVY: dict[str, tuple[str, object]] = {
    "1 MiB to tokenize": ("/v1/tokenize", {"model": "right", "text": WORDS[:MIB]}),
    "4 MiB of text": ("/v1/chat/completions", {**CHAT, "messages": [{**MESSAGE, "content": WORDS}]}),
    "a thousand messages": (
        "/v1/chat/completions",
        {**CHAT, "messages": [{**MESSAGE, "content": WORDS[:4000]}] * 1000},
    ),
    "a million token ids": ("/v1/completions", {"model": "right", "prompt": [5] * 1_000_000}),
    "small objects": ("/v1/chat/completions", SMALL_OBJECTS),
    "small objects for a remote model": ("/v1/chat/completions", {**SMALL_OBJECTS, "model": "far"}),
    "many members": ("/v1/chat/completions", MANY_MEMBERS),
    "an answer of log probabilities": ("/v1/chat/completions", {**CHAT, **LOGPROBS}),
    "2,048 vectors": ("/v1/embeddings", {"model": "embed", "input": ["x"] * 2048}),
    "2 MiB to tokenize": ("/v1/tokenize", {"model": "right", "text": WORDS[: 2 * MIB]}),
    "a million tokens to text": ("/v1/detokenize", {"model": "right", "tokens": [5] * MIB}),
    "2 million token ids": ("/v1/completions", {"model": "right", "prompt": [5] * 2_000_000}),
    "token ids for 128 completions": ("/v1/completions", {"model": "right", "prompt": [[5] * 15_000] * 128}),
    "token ids for 2,048 vectors": ("/v1/embeddings", {"model": "embed", "input": [[5] * 900] * 2048}),
    "as many lists as may be": ("/v1/chat/completions", {**CHAT, "user_data": [[]] * 99_900}),
    "as many members as may be": (
        "/v1/chat/completions",
        {**CHAT, "model": "far", **{f"k{number}": 1 for number in range(99_900)}},
    ),
    "brackets in a text": ("/v1/chat/completions", {**CHAT, "user_data": '"[{' * 1_000_000}),
    "log probabilities of a prompt": ("/v1/completions", {**PROMPT_LOGPROBS, "stream": False}),
    "a stream of such": ("/v1/completions", {**PROMPT_LOGPROBS, "stream": True}),
}


MORE = """
[telemetry]
metrics = "public"
[models.long]
model_path = "{folder}/left.gguf"
context_size = 4096
threads_per_session = 1
[models.far]
upstream = {{ urls = ["http://127.0.0.1:9"], model = "x" }}
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """A server that tells everybody how late its loop is, and a model without a limit."""
    folder = tmp_path_factory.mktemp("lag")
    with tiny_engines(folder, MORE.format(folder=folder)) as served:
        yield served


async def looks(
    subject: Subject, client: httpx2.AsyncClient, job: asyncio.Future[httpx2.Response]
) -> tuple[float, float]:
    """Return the longest time of a health check while a request was under way, and the most work in one.

    Work is processor time of the server, no more than the look took: the machine's other work is none.
    """
    longest = most_work = 0.0
    while not job.done():
        cpu, started = subject.cpu_s(), time.monotonic()
        await client.get("/livez")
        took_s = time.monotonic() - started
        longest = max(longest, took_s)
        most_work = max(most_work, min(took_s, subject.cpu_s() - cpu))
        await asyncio.sleep(PAUSE_S)
    return longest, most_work


@pytest.mark.slow
@pytest.mark.parametrize("heavy", HEAVY)
async def test_a_heavy_request_holds_up_nobody(engines: Engines, figures: Figures, heavy: str) -> None:
    """Whoever asks meanwhile is answered; the lag that the server tells of itself is printed beside it."""
    path, body = HEAVY[heavy]
    data = msgspec.json.encode(body)
    headers = {"content-type": "application/json"}
    cpu = engines.subject.cpu_s()
    async with engines.subject.client(timeout_s=DEADLINE_S) as client, engines.subject.client() as looking:
        await looking.get("/livez")
        job = asyncio.ensure_future(client.post(path, content=data, headers=headers))
        longest, most_work = await looks(engines.subject, looking, job)
        answer = await job
        lines = (await looking.get("/metrics")).text.splitlines()
    lag = next(float(line.split()[1]) for line in lines if line.startswith("arriero_event_loop_lag_seconds"))

    figures.tell(
        f"heavy request: {heavy}",
        status=answer.status_code,
        KiB=len(data) // 1024,
        longest_look_s=longest,
        most_work_s=most_work,
        told_lag_s=lag,
        server_cpu_s=engines.subject.cpu_s() - cpu,
    )
    assert answer.status_code in (200, 400, 502, 503), answer.text[:500]
    assert longest < LONGEST_S
    assert most_work < MOST_WORK_S
