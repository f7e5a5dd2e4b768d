"""The constrained tasks of the starter configuration, over sockets, with the real model."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tests.flows.process import HEADERS, KEY, Served, engine_counts, eventually, started
from websockets.asyncio.client import connect

from arriero.cli.source import STARTER
from arriero.config.load import load_config
from arriero.sse import Decoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx2

    from arriero.sse import ServerSentEvent

ANSWERS = [
    ("classifier", "What a waste of money.", "negative"),
    ("classifier", "A wonderful meal.", "positive"),
    ("true_or_false", "What a waste of money.", False),
    ("true_or_false", "A wonderful meal.", True),
    ("guests", "A table for six, please.", 6),
    ("guests", "Dinner for eight tonight.", 8),
    ("shopping_list", "tomatoes and onions", ["tomatoes", "onions"]),
    ("shopping_list", "coffee", ["coffee"]),
    (
        "car",
        "Black BMW 320i, 2018, petrol, 184 hp.",
        {
            "name": "BMW 320i",
            "year": 2018,
            "colour": "black",
            "engine": {"fuel": "petrol", "horsepower": 184},
        },
    ),
]
BABBLER = """
# Its hidden text goes on for as long as the context lasts: the model repeats a line that it has seen often.
[tasks.babbler]
model = "smollm2"
prelude = "the cat sat on the mat\\nthe cat sat on the mat\\nthe cat sat on the mat\\n"
bias_prompt = "\\nrecommended="
show_hidden = true
biaser.json_schema = { type = "boolean" }
temperature = 0
repeat_penalty = 1.0
"""
FEW_STEPS = 300
"""Of some 4,000 that fill the context."""
TASKS = load_config(STARTER, {}).tasks
SCHEMAS = {name: task.biaser.json_schema for name, task in TASKS.items() if task.biaser}


@pytest.fixture(scope="module")
def starter(smollm2: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The starter configuration with the key of these tests, one more task, and its memory apart."""
    config = tmp_path_factory.mktemp("starter") / "arriero.toml"
    text = STARTER.read_text().replace('allowed_keys = ["arriero"]', f'allowed_keys = ["{KEY}"]')
    text = text.replace("{ embedded = {} }", '{ embedded = { path = "documents.db" } }')
    config.write_text(text + BABBLER)
    with started(config, {"smollm2": smollm2, "minilm": minilm}) as served:
        yield served


@pytest.fixture
async def client(starter: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that server."""
    async with starter.client() as client:
        yield client


def checked(task: str, text: str) -> Any:
    """Return the answer that a text is; it must conform to what the task says."""
    schema = SCHEMAS[task]
    if schema is None:
        return text
    value = json.loads(text)
    jsonschema.validate(value, schema)
    assert json.dumps(value, separators=(",", ":"), ensure_ascii=False) == text
    return value


async def events(client: httpx2.AsyncClient, task: str, **params: str) -> list[ServerSentEvent]:
    response = await client.get(f"/v1/task/{task}/live", params=params)
    return list(Decoder().feed(response.content))


@pytest.mark.parametrize(("task", "prompt", "answer"), ANSWERS)
async def test_the_answer_is_right_and_conforms_in_every_form(
    starter: Served, client: httpx2.AsyncClient, task: str, prompt: str, answer: Any
) -> None:
    """POST, a live stream and a socket give the answer, which ends because it is whole."""
    posted = await client.post(f"/v1/task/{task}/completion", json={"prompt": prompt})
    *pieces, end = await events(client, task, prompt=prompt, end="true")
    frames = await frames_of(starter, task, prompt)

    assert checked(task, posted.json()["text"]) == answer
    assert {piece.id for piece in pieces} == {"token"}
    assert checked(task, "".join(piece.data for piece in pieces)) == answer
    assert json.loads(end.data)["finish_reason"] == "stop"
    assert checked(task, "".join(f["text"] for f in frames if f["type"] == "delta")) == answer
    assert frames[-1] == {"type": "stop", "finish_reason": "stop", "stop_sequence": None}


async def frames_of(starter: Served, task: str, prompt: str) -> list[dict[str, Any]]:
    """Return the frames of one turn over a socket."""
    url = f"{starter.url.replace('http', 'ws')}/v1/task/{task}/chat"
    async with connect(url, additional_headers=HEADERS, subprotocols=["arriero.v1"]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"prompt": prompt}))
        frames = [json.loads(await socket.recv())]
        while frames[-1]["type"] not in ("stop", "error"):
            frames.append(json.loads(await socket.recv()))
    return frames


async def test_the_librarian_always_says_something(client: httpx2.AsyncClient) -> None:
    """Also what the document does not tell is answered with a line of words, and where they come from."""
    document = b"asn1_delete_structure frees the memory of a structure, and of all that is below it."
    await client.put("/v1/memory/documents", params={"name": "free.txt"}, content=document)
    for question in ("What does asn1_delete_structure do?", "How can I disable a font?", "12"):
        answer = (await client.get("/v1/task/librarian/completion", params={"prompt": question})).json()

        assert re.fullmatch(r" [A-Z][^\n]{2,250}\n?", answer["text"]), answer
        assert [citation["name"] for citation in answer["citations"]] == ["free.txt"]


async def test_a_conversation_stays_constrained(starter: Served) -> None:
    """Each turn over Poly's socket conforms; an empty frame ends it."""
    url = f"{starter.url.replace('http', 'ws')}/v1/task/true_or_false/chat"
    answers = []
    async with connect(url, additional_headers=HEADERS) as socket:
        for prompt in ("I loved every minute.", "What a waste of money.", "A wonderful meal."):
            await socket.send(prompt)
            pieces = [await socket.recv(decode=True)]
            while pieces[-1]:
                pieces.append(await socket.recv(decode=True))
            answers.append("".join(pieces))

    assert len(answers) == 3
    assert set(answers) <= {"true", "false"}


@pytest.mark.parametrize("max_tokens", [0, 1, 4])
async def test_an_answer_that_is_cut_is_never_told_as_whole(
    client: httpx2.AsyncClient, max_tokens: int
) -> None:
    """`max_tokens` ends a value in the middle, with the reason `length`."""
    body = {
        "model": "task/car",
        "prompt": "Black BMW 320i, 2018, petrol, 184 hp.",
        "max_tokens": max_tokens,
    }
    said = (await client.post("/v1/completions", json=body)).json()

    assert said["choices"][0]["finish_reason"] == "length"
    assert said["usage"]["completion_tokens"] == max_tokens
    with pytest.raises(json.JSONDecodeError):
        json.loads(said["choices"][0]["text"])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["guests", "shopping_list", "true_or_false"])
async def test_hot_answers_conform_as_well(client: httpx2.AsyncClient, task: str) -> None:
    """Eight wild answers side by side, with penalties, all match; those that are whole are `stop`."""
    body = {
        "model": f"task/{task}",
        "prompt": 'Something else: 12345, "{[\\ end',
        "temperature": 2,
        "top_k": 0,
        "top_p": 1,
        "frequency_penalty": 2,
        "n": 8,
        "seed": 3,
        "max_tokens": 60,
    }
    choices = (await client.post("/v1/completions", json=body)).json()["choices"]

    whole = [choice["text"] for choice in choices if choice["finish_reason"] == "stop"]
    assert len(choices) == 8
    assert whole
    for text in whole:
        checked(task, text)


async def test_free_and_constrained_answers_do_not_disturb_each_other(client: httpx2.AsyncClient) -> None:
    """All tasks at once: each constrained answer is right, the free ones are free."""
    free = [client.post("/v1/task/assistant/completion", json={"prompt": "Say hello."}) for _ in range(2)]
    constrained = [
        client.post(f"/v1/task/{task}/completion", json={"prompt": prompt})
        for task, prompt, _ in ANSWERS[::2]
    ]
    responses = await asyncio.gather(*free, *constrained)

    texts = [response.json()["text"] for response in responses]
    assert all(texts[:2])
    for (task, _, answer), text in zip(ANSWERS[::2], texts[2:], strict=True):
        assert checked(task, text) == answer


async def test_the_hidden_sentence_is_shown_to_who_asks(client: httpx2.AsyncClient) -> None:
    """It streams before the answer, and counts in the usage whether it is seen or not."""
    prompt = "The room was dirty and loud."
    *shown, end = await events(client, "true_or_false", prompt=prompt, hidden="true", end="true")
    ids = [piece.id for piece in shown]
    hidden = "".join(piece.data for piece in shown if piece.id == "hidden")

    assert ids == ["hidden"] * ids.count("hidden") + ["token"] * ids.count("token")
    assert len(hidden.split()) > 2
    assert json.loads(end.data)["usage"]["completion_tokens"] > len(hidden.split())


async def test_a_chat_on_a_task_has_both_phases(client: httpx2.AsyncClient) -> None:
    """OpenAI's route answers the constrained text, and the hidden one as reasoning if asked."""
    body = {"model": "task/true_or_false", "messages": [{"role": "user", "content": "A wonderful meal."}]}
    plain = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]
    told = (await client.post("/v1/chat/completions", json={**body, "include_reasoning": True})).json()
    message = told["choices"][0]["message"]

    assert (plain["message"]["content"], plain["finish_reason"]) == ("true", "stop")
    assert "reasoning_content" not in plain["message"]
    assert message["content"] == "true"
    assert len(message["reasoning_content"].split()) > 2


@pytest.mark.parametrize("route", ["chat/completions", "completions"])
async def test_a_constraint_may_be_asked_for_where_the_task_has_none(
    client: httpx2.AsyncClient, route: str
) -> None:
    """A free task honours `response_format`; one with a constraint refuses it, unless it asks for text."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    said = (
        {"messages": [{"role": "user", "content": "Well?"}]}
        if route.startswith("chat")
        else {"prompt": "Well?"}
    )
    asked = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}

    async def answered(task: str, response_format: dict[str, Any]) -> httpx2.Response:
        body = {"model": f"task/{task}", "response_format": response_format, "max_tokens": 40, **said}
        return await client.post(f"/v1/{route}", json=body)

    free, refused, plain = [
        await answered("assistant", asked),
        await answered("guests", asked),
        await answered("guests", {"type": "text"}),
    ]
    choice = free.json()["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    jsonschema.validate(json.loads(text), schema)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")
    assert plain.status_code == 200


async def test_a_task_that_hides_nothing_refuses_to_show_it(client: httpx2.AsyncClient) -> None:
    """The status is 403, and the reason is told."""
    response = await client.get("/v1/task/guests/live", params={"prompt": "Two.", "hidden": "true"})

    assert (response.status_code, response.text) == (403, "the task guests does not show its hidden text")


async def test_a_client_that_goes_while_text_is_hidden_ends_the_work(client: httpx2.AsyncClient) -> None:
    """The engine is idle after a few steps of thousands, and the server goes on."""
    before = await engine_counts(client, "smollm2")
    params = {"prompt": "the cat", "hidden": "true"}

    async def is_running() -> bool:
        return bool((await engine_counts(client, "smollm2"))["running"] == 1)

    async with client.stream("GET", "/v1/task/babbler/live", params=params) as response:
        pieces = response.aiter_bytes()  # Kept: one that is let go of closes the connection.
        await anext(pieces)
        await eventually(is_running)

    async def is_idle() -> bool:
        counts = await engine_counts(client, "smollm2")
        return bool(counts["running"] == 0 == counts["waiting"])

    await eventually(is_idle)
    assert (await engine_counts(client, "smollm2"))["steps"] - before["steps"] < FEW_STEPS
