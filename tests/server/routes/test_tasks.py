"""Poly's task routes, byte for byte, over a real socket."""

from __future__ import annotations

import re
from typing import Any

import pytest

from arriero.errors import EngineError
from arriero.sse import Decoder

TEXT = {"prompt": "Hi"}


async def test_tasks_are_listed(serving: Any) -> None:
    """The list holds every task's name, in order."""
    async with serving(None, '[tasks.a]\nmodel = "m"') as client:
        assert (await client.get("/v1/task")).json() == {"tasks": ["a", "t"]}


async def test_the_status_of_a_task_is_ok(serving: Any) -> None:
    """A configured task is ok."""
    async with serving() as client:
        assert (await client.get("/v1/task/t/status")).json() == {"status": "ok"}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_completion_comes_as_one_text(serving: Any, model_saying: Any, method: str) -> None:
    """GET and POST feed prefix, prompt and postfix, and answer the whole text."""
    model = model_saying("Hello\nyou")
    async with serving(model) as client:
        body = {"params": TEXT} if method == "GET" else {"json": {**TEXT, "max_tokens": 1}}
        response = await client.request(method, "/v1/task/t/completion", **body)

    assert response.json() == {"text": "Hello\nyou"}
    assert model.fed[0][1:] == tuple(b"<Hi>")


async def test_live_has_polys_bytes(serving: Any, model_saying: Any) -> None:
    """`id:token`, no space but before a leading space, a line end as two empty data lines, no end event."""
    async with serving(model_saying("a \n\u00e9")) as client:
        response = await client.get("/v1/task/t/live", params=TEXT)

    assert response.content == (
        b"id:token\ndata:a\n\nid:token\ndata:  \n\nid:token\ndata:\ndata:\n\nid:token\ndata:\xc3\xa9\n\n"
    )
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"


async def test_a_carriage_return_is_a_line_end(serving: Any, model_saying: Any) -> None:
    """CR alone becomes one line end, CRLF too although its halves are two pieces."""
    async with serving(model_saying("a\rb\r\nc")) as client:
        response = await client.get("/v1/task/t/live", params=TEXT)

    empty = b"id:token\ndata:\ndata:\n\n"
    assert response.content == b"id:token\ndata:a\n\n%bid:token\ndata:b\n\n%bid:token\ndata:c\n\n" % (
        empty,
        empty,
    )


@pytest.mark.parametrize("query", [{}, {"end": "true"}])
async def test_a_reader_that_connects_again_is_told_to_stop(
    serving: Any, model_saying: Any, query: dict[str, str]
) -> None:
    """An EventSource names the last id that it has seen; its prompt is not run again."""
    model = model_saying("a")
    async with serving(model) as client:
        first = await client.get("/v1/task/t/live", params=TEXT | query)
        seen = last_id(first.content)
        again = await client.get("/v1/task/t/live", params=TEXT | query, headers={"last-event-id": seen})
        unknown = await client.get("/v1/task/no/live", params=TEXT, headers={"last-event-id": seen})
        anew = await client.get("/v1/task/t/live", params=TEXT | query, headers={"last-event-id": ""})

    assert (seen, again.status_code, again.content) == ("token", 204, b"")
    assert (unknown.status_code, anew.content) == (404, first.content)
    assert len(model.requests) == 2


@pytest.mark.parametrize("query", [{}, {"end": "true"}])
async def test_an_answer_without_text_has_an_id_too(
    serving: Any, model_saying: Any, query: dict[str, str]
) -> None:
    """It stands alone in a block, which is no event: readers only know where they are."""
    async with serving(model_saying("")) as client:
        body = (await client.get("/v1/task/t/live", params=TEXT | query)).content

    assert body.endswith(b"id:end\n\n")
    assert last_id(body) == "end"
    assert [event.event for event in Decoder().feed(body)] == (["end"] if query else [])


def last_id(body: bytes) -> str:
    """Return what a browser takes for the last id of a stream."""
    return re.findall(rb"^id:(.*)$", body, re.MULTILINE)[-1].decode()


async def test_pieces_keep_their_order(serving: Any, model_saying: Any) -> None:
    """A long answer arrives as it was generated."""
    text = "".join(chr(0x4E00 + i) for i in range(3000))
    async with serving(model_saying(text)) as client:
        body = (await client.get("/v1/task/t/live", params=TEXT)).text

    assert (
        "".join(line.removeprefix("data:") for line in body.split("\n") if line.startswith("data:")) == text
    )


async def test_an_end_event_comes_on_request(serving: Any, model_saying: Any) -> None:
    """`?end=true` adds an event with the finish reason and the usage."""
    async with serving(model_saying("x")) as client:
        body = (await client.get("/v1/task/t/live", params={**TEXT, "end": "true"})).text

    assert body.endswith(
        'event:end\ndata:{"finish_reason":"stop","stop_sequence":null,'
        '"usage":{"prompt_tokens":5,"completion_tokens":1,"cached_tokens":0}}\n\n'
    )


THINKING = '[tasks.thinking]\nmodel = "m"\nbias_prompt = "So:"\nshow_hidden = %s'


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("true", "id:hidden\ndata:h\n\nid:hidden\ndata:m\n\nid:token\ndata:y\n\n"),
        ("false", "id:token\ndata:y\n\n"),
    ],
)
async def test_hidden_text_is_shown_on_request(
    serving: Any, model_saying: Any, asked: str, expected: str
) -> None:
    """Where the task allows it `?hidden=true` shows what was said before the bias prompt."""
    async with serving(model_saying("hm", "y"), THINKING % "true") as client:
        body = (await client.get("/v1/task/thinking/live", params={**TEXT, "hidden": asked})).text

    assert body == expected


async def test_hidden_text_is_shown_only_where_the_task_allows_it(serving: Any, model_saying: Any) -> None:
    """Otherwise the request is refused before anything is generated; without the wish it is answered."""
    model = model_saying("hm", "y")
    async with serving(model, THINKING % "false") as client:
        refused = await client.get("/v1/task/thinking/live", params={**TEXT, "hidden": "true"})
        whole = await client.get("/v1/task/thinking/completion", params=TEXT)

    assert (refused.status_code, refused.text) == (403, "the task thinking does not show its hidden text")
    assert whole.json() == {"text": "y"}
    assert len(model.requests) == 2


async def test_silence_is_filled_with_polys_comment(serving: Any, model_saying: Any) -> None:
    """After a second without a piece the head and a comment are sent."""
    model = model_saying("x", hold_at=0)
    async with serving(model) as client, client.stream("GET", "/v1/task/t/live", params=TEXT) as response:
        pieces = response.aiter_raw()

        assert await anext(pieces) == b":keep-alive-text\n\n"
        model.go.set()
        assert b"".join([piece async for piece in pieces]) == b"id:token\ndata:x\n\n"


async def test_an_error_before_the_first_piece_has_a_status(serving: Any) -> None:
    """A private token is refused with Poly's text, on completion and on live."""
    async with serving() as client:
        for path in ("completion", "live"):
            response = await client.get(f"/v1/task/t/{path}", params={"prompt": "a |secret|"})
            assert (response.status_code, response.text) == (400, "illegal token encountered")


async def test_an_error_after_the_first_piece_is_an_event(serving: Any, model_saying: Any) -> None:
    """A failing engine ends the stream with an event `error`; with `Accept: json` it carries the code."""
    async with serving(model_saying(EngineError("the engine died"))) as client:
        plain = await client.get("/v1/task/t/live", params=TEXT)
        problem = await client.get("/v1/task/t/live", params=TEXT, headers={"accept": "application/json"})
        whole = await client.get("/v1/task/t/completion", params=TEXT)

    assert plain.text == "id:token\ndata:?\n\nevent:error\ndata:the engine died\n\n"
    assert '"code":"engine_error"' in problem.text
    assert (whole.status_code, whole.text) == (500, "the engine died")


async def test_a_prompt_beyond_the_context_is_refused(serving: Any, model_saying: Any) -> None:
    """The message names the context, and the server goes on."""
    async with serving(model_saying("x", context_size=8)) as client:
        refused = await client.get("/v1/task/t/live", params={"prompt": "far too long"})
        answered = await client.get("/v1/task/t/completion", params={"prompt": "a"})

    assert refused.status_code == 400
    assert "context" in refused.text
    assert answered.json() == {"text": "x"}


@pytest.mark.parametrize("path", ["status", "completion", "live"])
async def test_an_unknown_task_is_not_found(serving: Any, path: str) -> None:
    """Every route answers 404 with Poly's text."""
    async with serving() as client:
        response = await client.get(f"/v1/task/nope/{path}", params=TEXT)

    assert (response.status_code, response.text) == (404, "task not found: nope")


async def test_stats_count_finished_completions(serving: Any, model_saying: Any) -> None:
    """A task appears once a completion has finished, with Poly's members."""
    async with serving(model_saying("xyz")) as client:
        before = (await client.get("/v1/stats")).json()
        await client.get("/v1/task/t/completion", params=TEXT)
        await client.get("/v1/task/t/live", params=TEXT)
        after = (await client.get("/v1/stats")).json()

    state = {"kind": "local", "circuit": "closed", "restarts": 0, "state": "ready"}
    models = {"m": state, "other": state}
    assert before == {"tasks": {}, "engine": {"m": {"steps": 3}, "other": {"steps": 3}}, "models": models}
    assert after["tasks"]["t"]["cycles"] == 2
    assert after["tasks"]["t"]["predict_tokens"] == 6
    assert after["tasks"]["t"]["predict_duration"] == {"secs": 1, "nanos": 0}


async def test_head_does_not_generate(serving: Any, model_saying: Any) -> None:
    """HEAD on the generating GET routes answers the head alone."""
    model = model_saying("x")
    async with serving(model) as client:
        for path in ("completion", "live"):
            response = await client.head(f"/v1/task/t/{path}", params=TEXT)
            assert (response.status_code, response.content) == (200, b"")

    assert model.requests == []


BAD = [
    ("GET", "completion", {}, 400, "missing field `prompt`"),
    ("GET", "live", {}, 400, "missing field `prompt`"),
    ("GET", "chat", {}, 400, "upgrade"),
    ("POST", "completion", {"json": {}}, 422, "missing field `prompt`"),
    ("POST", "completion", {"json": {"prompt": 1}}, 422, "prompt: Expected `str`"),
    ("POST", "completion", {"json": []}, 422, "Expected `object`"),
    (
        "POST",
        "completion",
        {"content": b"{", "headers": {"content-type": "application/json"}},
        400,
        "as JSON",
    ),
    ("POST", "completion", {"content": b'{"prompt":"x"}'}, 415, "application/json"),
    ("POST", "live", {"json": TEXT}, 405, "POST"),
]


@pytest.mark.parametrize(("method", "path", "sent", "status", "text"), BAD)
async def test_bad_requests_are_refused_as_poly_does(
    serving: Any, method: str, path: str, sent: Any, status: int, text: str
) -> None:
    """400 for the query and for broken JSON, 422 for its members, 415, 405; always plain text."""
    async with serving() as client:
        response = await client.request(method, f"/v1/task/t/{path}", **sent)

    assert response.status_code == status
    assert text in response.text
    assert response.headers["content-type"].startswith("text/plain")
