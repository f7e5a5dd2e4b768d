"""Tasks on remote models, served by a process of its own: before a script, and before another Arriero."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai
import pytest
from tests.flows.process import DEADLINE_S, HEADERS, KEY, Served, started
from websockets.asyncio.client import connect

from arriero.testing.upstream import Answer, End, Received, Upstream, events, whole

SECRET = "org/Secret-Model-7B"
CONFIG = """
allowed_keys = ["{key}"]
[models.scripted]
max_tokens = 16
max_n = 2
upstream = {{ urls = ["{scripted}"], model = "{secret}", dialect = "vllm" }}
[tasks.told]
model = "scripted"
prelude = "P"
prefix = "("
postfix = ")"
private_tokens = ["<x>"]
stop_sequences = ["END"]

[models.real]
max_context = 512
upstream = {{ urls = ["{real}"], model = "chat", api_key = "{key}", dialect = "vllm" }}
[tasks.copier]
model = "real"
max_tokens = 4
temperature = 0
[tasks.chatting]
model = "real"
form = "chat"
prelude = "Answer in one sentence."
max_tokens = 24
temperature = 0
[tasks.chooser]
model = "real"
form = "chat"
temperature = 0
bias_prompt = "In one word, yes or no:"
max_tokens = 8
[tasks.chooser.biaser]
choice = ["yes", "no"]
[tasks.person]
model = "real"
max_tokens = 48
temperature = 0
[tasks.person.biaser.json_schema]
type = "object"
properties.name = {{ type = "string", maxLength = 8 }}
properties.age = {{ type = "integer", minimum = 0, maximum = 99 }}
required = ["name", "age"]
additionalProperties = false
"""


def chunk(text: str, finish: str | None = None, **members: Any) -> dict[str, Any]:
    choices = [{"index": 0, "text": text, "finish_reason": finish}]
    return {"id": "cmpl-1", "object": "text_completion", "model": SECRET, "choices": choices} | members


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
STREAM = events(chunk("Hel<x>"), chunk("loEND"), chunk("", "stop"), chunk("", choices=[], usage=USAGE))


def scripted(received: Received) -> Answer:
    """Answer as the last input says."""
    match received.json["prompt"].rpartition("(")[2]:
        case "cut)":
            return STREAM.broken_off(250, End.RESET)
        case "fail)":
            return whole({"error": {"message": f"{SECRET} at 10.0.0.7"}}, 500)
        case "slow)":
            return whole({}, 504)
        case _:
            return STREAM


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    """The script, for all tests of this file."""
    async with Upstream.of(scripted) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def front(upstream: Upstream, server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with tasks but no weights."""
    config = tmp_path_factory.mktemp("remote") / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY, scripted=upstream.url, real=server.url, secret=SECRET))
    with started(config, {}) as served:
        yield served


@pytest.fixture
async def remote(front: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that server."""
    async with front.client() as client:
        yield client


@pytest.fixture
async def sdk(front: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client of that server."""
    url = f"{front.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=DEADLINE_S) as client:
        yield client


async def turns(front: Served, task: str, *prompts: str) -> list[str]:
    """Return the answers of one conversation over Poly's socket."""
    url = f"{front.url.replace('http', 'ws')}/v1/task/{task}/chat"
    answers = []
    async with connect(url, additional_headers=HEADERS) as socket:
        for prompt in prompts:
            await socket.send(prompt)
            answers.append("")
            while frame := str(await socket.recv()):
                answers[-1] += frame
    return answers


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_completion(remote: httpx2.AsyncClient, upstream: Upstream, method: str) -> None:
    """Poly's route answers the text, without private tokens and without the stop sequence."""
    how = {"params": {"prompt": "hi"}} if method == "GET" else {"json": {"prompt": "hi"}}
    answer = await remote.request(method, "/v1/task/told/completion", **how)

    assert (answer.status_code, answer.json()) == (200, {"text": "Hello"})
    assert upstream.requests[-1].json["prompt"] == "P(hi)"
    assert upstream.requests[-1].json["max_tokens"] == 16


async def test_live(remote: httpx2.AsyncClient) -> None:
    """The pieces come as events, then the end with reason and usage."""
    told = (await remote.get("/v1/task/told/live", params={"prompt": "hi", "end": "true"})).text

    pieces = re.findall(r"id:token\ndata:(.*)\n", told)
    assert "".join(pieces) == "Hello"
    end = json.loads(told.partition("event:end\ndata:")[2].split("\n")[0])
    assert (end["finish_reason"], end["stop_sequence"]) == ("stop", "END")
    assert end["usage"]["completion_tokens"] == 2


async def test_the_socket_keeps_the_conversation(front: Served, upstream: Upstream) -> None:
    """The second prompt holds the first turn, the stop sequence that ended it included."""
    assert await turns(front, "told", "a", "b") == ["Hello", "Hello"]
    assert upstream.requests[-1].json["prompt"] == "P(a)HelloEND(b)"


async def test_chat_completions(sdk: openai.AsyncOpenAI) -> None:
    """OpenAI's client gets whole answers and streams, under the name of the task."""
    asked: Any = {"model": "task/told", "messages": [{"role": "user", "content": "hi"}]}
    answer = await sdk.chat.completions.create(**asked, n=2)
    stream = await sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]

    assert [choice.message.content for choice in answer.choices] == ["Hello", "Hello"]
    assert (answer.model, answer.choices[0].finish_reason) == ("task/told", "stop")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (5, 2)


async def test_completions(sdk: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The caller's sampling and limit are sent on, within the model's."""
    answer = await sdk.completions.create(
        model="task/told", prompt="hi", max_tokens=500, temperature=0.25, extra_body={"top_k": 3}
    )

    assert answer.choices[0].text == "Hello"
    sent = upstream.requests[-1].json
    assert (sent["max_tokens"], sent["temperature"], sent["top_k"]) == (16, 0.25, 3)


@pytest.mark.parametrize(
    ("members", "param"),
    [({"n": 3}, "n"), ({"logprobs": True}, "logprobs"), ({"max_tokens": 0}, "max_tokens")],
)
async def test_the_models_rules_hold_for_the_task(
    remote: httpx2.AsyncClient, members: dict[str, Any], param: str
) -> None:
    """What the guard refuses callers of the model is refused callers of the task."""
    body = {"model": "task/told", "messages": [{"role": "user", "content": "hi"}], **members}
    answer = await remote.post("/v1/chat/completions", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(("prompt", "status"), [("fail", 502), ("slow", 504)])
async def test_failures_have_their_status(remote: httpx2.AsyncClient, prompt: str, status: int) -> None:
    """They tell nothing of the upstream."""
    poly = await remote.get("/v1/task/told/completion", params={"prompt": prompt})
    body = {"model": "task/told", "messages": [{"role": "user", "content": prompt}]}
    official = await remote.post("/v1/chat/completions", json=body)

    assert (poly.status_code, official.status_code) == (status, status)
    for told in (poly.text, official.text):
        assert "Secret" not in told
        assert "10.0.0.7" not in told
        assert "127.0.0.1" not in told


async def test_a_broken_stream_ends_with_an_error(front: Served, remote: httpx2.AsyncClient) -> None:
    """On every route that streams, after what was told; the socket stays open."""
    live = (await remote.get("/v1/task/told/live", params={"prompt": "cut"})).text
    body = {"model": "task/told", "messages": [{"role": "user", "content": "cut"}], "stream": True}
    official = (await remote.post("/v1/chat/completions", json=body)).text
    first, second = await turns(front, "told", "cut", "hi")

    assert "data:Hel\n" in live
    assert "event:error" in live
    assert '"error"' in official
    assert "[DONE]" not in official
    assert first.startswith("Hel[error: ")
    assert second == "Hello"


async def test_stats_count_remote_tasks(remote: httpx2.AsyncClient) -> None:
    """A task on a remote model is in the statistics; there is no engine."""
    await remote.get("/v1/task/told/completion", params={"prompt": "hi"})
    stats = (await remote.get("/v1/stats")).json()

    assert stats["tasks"]["told"]["predict_tokens"] >= 2
    assert stats["engine"] == {}


async def test_another_arriero_answers_as_if_it_were_here(
    remote: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    """A task in completion form gives the answer that the same task gives beside its model."""
    asked = {"params": {"prompt": "one two three one two three one two three one"}}
    far = await remote.get("/v1/task/copier/completion", **asked)
    near = await client.get("/v1/task/copier/completion", **asked)

    assert far.status_code == 200
    assert far.json()["text"]
    assert far.json() == near.json()


@pytest.mark.parametrize("task", ["copier", "chatting"])
async def test_a_conversation_with_another_arriero(front: Served, task: str) -> None:
    """Both forms hold two turns."""
    answers = await turns(front, task, "My name is Rosa.", "What is my name?")

    assert all(answers)
    assert not any("[error" in answer for answer in answers)


async def test_constraints_reach_the_other_arriero(remote: httpx2.AsyncClient) -> None:
    """A choice after a bias prompt, and a schema, are kept there."""
    choice = await remote.get("/v1/task/chooser/completion", params={"prompt": "Is water wet?"})
    person = await remote.get("/v1/task/person/completion", params={"prompt": "A person as JSON:\n"})

    assert choice.json()["text"] in {"yes", "no"}
    assert json.loads(person.json()["text"]).keys() == {"name", "age"}
