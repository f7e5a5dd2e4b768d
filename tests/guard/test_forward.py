"""The guard before a scripted upstream: what goes out, what comes back, and what is told of failures."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import msgspec
import pytest
from tests.guard.remote import SECRET, asked, chat_body, eventually, guard_of, guarded, streamed

from arriero.errors import (
    ArrieroError,
    ContextOverflow,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    UnknownName,
)
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.guard.forward import Guard
from arriero.guard.routes import Route
from arriero.guard.told import Stream, Whole
from arriero.testing.upstream import (
    Answer,
    End,
    Upstream,
    chat,
    chat_chunk,
    chat_stream,
    chunk,
    chunked,
    event,
    events,
    whole,
)

WHOLE = whole(chat("Grüße 🫏", model=SECRET))
STREAM = chat_stream("Grü", "ße ", "🫏", model=SECRET)
KEY = 'api_key = "sk-upstream"'


async def test_what_is_sent() -> None:
    """The upstream sees its own name, the headers that are its business, and nothing else."""
    headers = [
        (b"host", b"public.example"),
        (b"authorization", b"Bearer sk-caller"),
        (b"cookie", b"a=b"),
        (b"content-type", b"text/plain"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"X-Kept", b"yes"),
        (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    ]
    async with guarded(WHOLE, upstream_keys=f'{KEY}\nforward_headers = ["x-kept"]') as (guard, (upstream,)):
        await guard.forward(Route.CHAT, chat_body(temperature=0), headers)
        (received,) = upstream.requests

        assert (received.method, received.path) == ("POST", "/v1/chat/completions")
        assert received.json == {
            "model": SECRET,
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0,
        }
        assert received.headers == {
            "host": f"127.0.0.1:{upstream.port}",
            "content-type": "application/json",
            "accept-encoding": "identity",
            "accept": "application/json",
            "authorization": "Bearer sk-upstream",
            "traceparent": headers[-1][1].decode(),
            "x-kept": "yes",
            "content-length": str(len(received.body)),
        }


async def test_whole_answer() -> None:
    """A whole answer bears the public name, and its text as it was generated."""
    async with guarded(WHOLE) as (guard, _):
        answer = await asked(guard)

    told = msgspec.json.decode(answer.body)
    assert told == chat("Grüße 🫏", model="m") | {"system_fingerprint": None}
    assert answer.headers == ((b"content-type", b"application/json"),)


async def test_stream_at_any_cut() -> None:
    """A stream tells the same wherever TCP cuts it, with the public name, and its connection is kept."""
    cuts = [STREAM.cut(place) for place in range(1, len(STREAM.bytes), 3)]
    async with guarded(STREAM, *cuts) as (guard, (upstream,)):
        expected = await streamed(guard)
        for _ in cuts:
            await eventually(lambda: not guard.num_running)
            assert await streamed(guard) == expected

        assert expected.endswith(b"data: [DONE]\n\n")
        assert expected.count(b'"model":"m"') == 4
        assert "Grü".encode() in expected or b"Gr\\u00fc" in expected
        assert SECRET.encode() not in expected
        assert len(upstream.requests) == len(cuts) + 1


async def test_streams_share_a_connection() -> None:
    """A stream that ended well leaves its connection to the next."""
    async with guarded(STREAM) as (guard, (upstream,)):
        for _ in range(5):
            await streamed(guard)
            await asyncio.sleep(0.01)  # the end of the framing comes after the last word

        assert upstream.connections == 1


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_stream_that_breaks(end: End) -> None:
    """A stream that breaks anywhere ends in an error event without [DONE]; before it began it is an error."""
    done = STREAM.bytes.index(b"[DONE]\n\n") + len(b"[DONE]\n\n")
    for place in range(1, done, 17):
        async with guarded(STREAM.broken_off(place, end)) as (guard, _):
            told = await streamed_or_nothing(guard)
            await eventually(lambda: guard.num_running == guard.num_connections == 0)

        assert not told or told.split(b"\n\n")[-2].startswith(BROKEN)
        assert b"[DONE]" not in told
        assert SECRET.encode() not in told


BROKEN = b'data: {"error":{"message":"the upstream broke off its answer"'


async def streamed_or_nothing(guard: Guard) -> bytes:
    """Return what a stream told; nothing if it never began."""
    try:
        return await streamed(guard)
    except UpstreamFailed:
        return b""


async def test_stream_that_stalls() -> None:
    """A stream that falls silent ends in an error event in time."""
    stalled = STREAM.broken_off(len(STREAM.bytes) - 40, End.STALL)
    async with guarded(stalled, keys="timeouts.idle_s = 0.05") as (guard, (upstream,)):
        told = await streamed(guard)

        assert b'"code":"upstream_timeout"' in told.split(b"\n\n")[-2]
        await asyncio.wait_for(upstream.gone.wait(), 1)


FAULTS: dict[str, tuple[Answer, type[ArrieroError]]] = {
    "no answer": (Answer((), End.CLOSE), UpstreamFailed),
    "reset": (Answer((), End.RESET), UpstreamFailed),
    "garbage": (Answer((b"\x00garbage",), End.CLOSE), UpstreamFailed),
    "stall": (Answer((), End.STALL), UpstreamTimeout),
    "cut off": (WHOLE.broken_off(len(WHOLE.bytes) - 3), UpstreamFailed),
    "html": (whole(b"<html>" + SECRET.encode(), content_type="text/html"), UpstreamFailed),
    "not JSON": (whole(b'{"choices":'), UpstreamFailed),
    "not UTF-8": (whole(b'{"choices":[{"text":"\xff"}]}'), UpstreamFailed),
    "another route's": (whole({"object": "list", "data": []}), UpstreamFailed),
    "an error with 200": (whole({"error": {"message": f"no {SECRET}"}}), UpstreamFailed),
    "damaged gzip": (whole(b"{}", headers={"content-encoding": "gzip"}), UpstreamFailed),
    "cut gzip": (whole(gzip.compress(b"{}" * 99)[:-4], headers={"content-encoding": "gzip"}), UpstreamFailed),
    "brotli": (whole(b"{}", headers={"content-encoding": "br"}), UpstreamFailed),
    "brotli stream": (chunked(b"x", headers={"content-encoding": "br"}), UpstreamFailed),
    "redirect": (whole(b"", 307, headers={"location": "http://169.254.169.254/"}), UpstreamFailed),
    "its key is wrong": (whole({"error": {"message": "bad key sk-upstream"}}, 401), UpstreamFailed),
    "its path is wrong": (whole({"detail": "Not Found"}, 404), UpstreamFailed),
    "it failed": (whole(b"Traceback", 500), UpstreamFailed),
    "a gateway failed": (whole(b"<html>", 502), UpstreamFailed),
    "a gateway timed out": (whole(b"<html>", 504), UpstreamTimeout),
    "overloaded": (whole(b"", 503), Overloaded),
    "too many": (whole(b"", 429, headers={"retry-after": "7"}), Overloaded),
    "too large": (whole(b"", 413), PayloadTooLarge),
    "the caller's fault": (whole({"error": {"message": f"{SECRET}: no", "param": "n"}}, 400), InvalidRequest),
    "too long": (
        whole({"message": "This model's maximum context length is 8 tokens", "code": 400}, 400),
        ContextOverflow,
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("answer", "error"), FAULTS.values(), ids=FAULTS.keys())
async def test_fault(answer: Answer, error: type[ArrieroError], stream: bool) -> None:
    """Each fault of an upstream is one error, which tells no name, no address and no key."""
    async with guarded(answer, keys="timeouts.first_byte_s = 0.1", upstream_keys=KEY) as (guard, (upstream,)):
        with pytest.raises(error) as caught:
            await asked(guard, stream=stream)

        assert type(caught.value) is error or error is UpstreamFailed
        for secret in (SECRET, "Secret-Model", "127.0.0.1", str(upstream.port), "sk-upstream"):
            assert secret not in caught.value.message
        assert guard.num_running == guard.replicas.num_running == 0


async def test_refused() -> None:
    """An upstream that is not there is a failure of the upstream, and soon that of the service."""
    async with Upstream.of(WHOLE) as upstream:
        pass
    guard = guard_of([upstream.url])
    for _ in range(3):
        with pytest.raises(UpstreamFailed):
            await asked(guard)
    with pytest.raises(Unavailable):
        await asked(guard)


async def test_gzip() -> None:
    """A compressed answer is told uncompressed, whole or as a stream."""
    body = chat("zipped", model=SECRET)
    packed = gzip.compress(STREAM_TEXT)
    pieces = [packed[index : index + 5] for index in range(0, len(packed), 5)]
    answers = (whole(body, gzipped=True), chunked(*pieces, headers={"content-encoding": "gzip"}))
    async with guarded(*answers) as (guard, _):
        told = msgspec.json.decode((await asked(guard)).body)
        text = await streamed(guard)

    assert told["choices"][0]["message"]["content"] == "zipped"
    assert text.endswith(b"data: [DONE]\n\n")
    assert SECRET.encode() not in text


STREAM_TEXT = b"".join(
    [
        event(chat_chunk("hello", model=SECRET)),
        event(chat_chunk(None, model=SECRET, finish="stop")),
        b"data: [DONE]\n\n",
    ]
)


async def test_cut_gzip_stream() -> None:
    """A compressed stream that is cut off is not taken for a whole one."""
    packed = gzip.compress(STREAM_TEXT)[:-20]
    async with guarded(chunked(packed, headers={"content-encoding": "gzip"})) as (guard, _):
        told = await streamed(guard)

    assert b'"error"' in told.split(b"\n\n")[-2]
    assert b"[DONE]" not in told


async def test_gzip_bomb() -> None:
    """An answer that unpacks to more than the bound is given up without being unpacked."""
    bomb = gzip.compress(b" " * (80 << 20), 1)
    async with guarded(whole(bomb, headers={"content-encoding": "gzip"})) as (guard, _):
        with pytest.raises(UpstreamFailed, match="too long"):
            await asked(guard)


async def test_stream_unasked() -> None:
    """A stream that nobody asked for is no answer."""
    async with guarded(STREAM) as (guard, _):
        with pytest.raises(UpstreamFailed):
            await asked(guard)


async def test_whole_answer_to_a_stream() -> None:
    """An upstream that does not stream gives a whole answer."""
    async with guarded(WHOLE) as (guard, _):
        answer = await guard.forward(Route.CHAT, chat_body(stream=True), [])

    assert isinstance(answer, Whole)
    assert b'"model":"m"' in answer.body


async def test_lines() -> None:
    """A stream of JSON lines stays one."""
    lines = [msgspec.json.encode(chat_chunk("a", model=SECRET, finish=end)) + b"\n" for end in (None, "stop")]
    async with guarded(chunked(*lines, content_type="application/x-ndjson")) as (guard, _):
        told = await streamed(guard)

    assert [msgspec.json.decode(line)["model"] for line in told.splitlines()] == ["m", "m"]


async def test_first_event_at_once() -> None:
    """An event is told when it has come, not when the next one does."""
    held = asyncio.Event()
    async with guarded(Answer((*STREAM.parts[:2], held, *STREAM.parts[2:]))) as (guard, _):
        answer = await guard.forward(Route.CHAT, chat_body(stream=True), [])
        assert isinstance(answer, Stream)
        first = await asyncio.wait_for(answer.piece(), 1)
        answer.close()

    assert first.count(b"data: ") == 1


async def test_failed_stream_lets_the_upstream_go() -> None:
    """At once, though nobody has closed the stream yet."""
    async with guarded(Answer((STREAM.parts[0], chunk(b"data: {\n\n")), End.STALL)) as (guard, (upstream,)):
        answer = await guard.forward(Route.CHAT, chat_body(stream=True), [])
        assert isinstance(answer, Stream)
        assert b'"error"' in await answer.piece()

        await asyncio.wait_for(upstream.gone.wait(), 1)
        answer.close()


async def test_caller_leaves_a_stream() -> None:
    """A stream that is closed closes the upstream's connection at once; closing again does nothing."""
    async with guarded(Answer(STREAM.parts[:2], End.STALL)) as (guard, (upstream,)):
        answer = await guard.forward(Route.CHAT, chat_body(stream=True), [])
        assert isinstance(answer, Stream)
        await answer.piece()
        answer.close()
        answer.close()

        await asyncio.wait_for(upstream.gone.wait(), 1)
        assert guard.num_running == 0


async def test_caller_leaves_before_the_answer() -> None:
    """A request that is given up closes the upstream's connection at once."""
    async with guarded(Answer((), End.STALL)) as (guard, (upstream,)):
        job = asyncio.create_task(asked(guard))
        await eventually(lambda: bool(upstream.requests))
        job.cancel()

        await asyncio.wait_for(upstream.gone.wait(), 1)
        assert guard.num_running == 0


async def test_max_concurrent() -> None:
    """One request over the bound is refused, and nothing is sent; a place that is left is free."""
    async with guarded(STREAM, WHOLE, keys="max_concurrent = 1") as (guard, (upstream,)):
        answer = await guard.forward(Route.CHAT, chat_body(stream=True), [])
        with pytest.raises(Overloaded):
            await asked(guard)
        assert isinstance(answer, Stream)
        answer.close()

        assert isinstance(await asked(guard), Whole)
        assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("route", "members", "error"),
    [
        (Route.TOKENIZE, {}, UnknownName),
        (Route.MODELS, {}, UnknownName),
        (Route.CHAT, {"model": "other"}, UnknownName),
        (Route.CHAT, {"logprobs": True}, InvalidRequest),
        (Route.CHAT, {"messages": []}, InvalidRequest),
    ],
)
async def test_refusal(route: Route, members: dict[str, Any], error: type[ArrieroError]) -> None:
    """What is not allowed never reaches the upstream."""
    async with guarded(WHOLE) as (guard, (upstream,)):
        with pytest.raises(error):
            await asked(guard, route, **members)

        assert upstream.connections == 0


async def test_refusals_are_counted() -> None:
    """Those of what cannot be read, and those of what must not be asked."""
    async with guarded(WHOLE) as (guard, _):
        for body in (b"{", chat_body(logprobs=True)):
            with pytest.raises(InvalidRequest):
                await guard.forward(Route.CHAT, body, [])

        assert guard.actions == {"refused": 2}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (200, b"said"),
        (301, None),
        (404, None),
        (409, None),
        (408, Overloaded),
        (428, None),
        (429, Overloaded),
        (503, Overloaded),
        (500, UpstreamFailed),
        (502, UpstreamFailed),
    ],
)
async def test_what_an_upstream_says_of_itself(status: int, told: Any) -> None:
    """As it came; nothing where it says nothing; an error where it might have said something."""
    async with guarded(whole(b"said", status)) as (guard, (upstream,)):
        if isinstance(told, type):
            with pytest.raises(told):
                await guard.get("/about")
        else:
            assert await guard.get("/about") == told

        assert (upstream.requests[0].method, upstream.requests[0].path) == ("GET", "/about")


def counting(received: Any) -> Answer:
    """Answer /tokenize with 30 tokens, and anything else with a chat."""
    if received.path == "/tokenize":
        return whole({"count": 30, "max_model_len": 99, "tokens": [1] * 30})
    return WHOLE


LIMITS = "max_tokens = 50\nmax_context = 60"
LONG = [{"role": "user", "content": "x" * 1000}]


async def test_cropped_to_what_the_prompt_leaves() -> None:
    """A prompt is counted by the upstream where the limit depends on it, once, and never by a generation."""
    async with guarded(counting, keys=LIMITS) as (guard, (upstream,)):
        for _ in range(2):
            answer = await asked(guard, messages=LONG, max_tokens=40)
            assert (b"x-cropped", b"max_tokens=30") in answer.headers

        assert guard.actions["cropped"] == 2
        paths = [received.path for received in upstream.requests]
        assert paths == ["/tokenize", "/v1/chat/completions", "/v1/chat/completions"]
        assert upstream.requests[0].json == {"model": SECRET, "messages": LONG}
        assert [received.json["max_tokens"] for received in upstream.requests[1:]] == [30, 30]


async def test_not_counted_without_need() -> None:
    """A prompt that fits whatever it holds is not counted."""
    async with guarded(counting, keys="max_tokens = 5\nmax_context = 4096") as (guard, (upstream,)):
        await asked(guard)

        assert [received.path for received in upstream.requests] == ["/v1/chat/completions"]


async def test_upstream_that_cannot_count() -> None:
    """Where a prompt cannot be counted the request goes with the limit that it has anyway."""

    def answer(received: Any) -> Answer:
        return whole({"detail": "Not Found"}, 404) if received.path == "/tokenize" else WHOLE

    async with guarded(answer, keys=LIMITS) as (guard, (upstream,)):
        await asked(guard, messages=LONG)

        assert upstream.requests[-1].json["max_tokens"] == 50


async def test_conversation_stays() -> None:
    """The turns of one conversation go to the same upstream, and many are spread."""
    async with guarded(WHOLE, replicas=3) as (guard, upstreams):
        for number in range(20):
            first = [{"role": "user", "content": str(number)}]
            for turn in (first, [*first, {"role": "assistant", "content": "a"}, *first]):
                await asked(guard, messages=turn)
        homes = [
            {received.json["messages"][0]["content"] for received in upstream.requests}
            for upstream in upstreams
        ]

        assert sum(map(len, homes)) == 20
        assert sum(map(bool, homes)) > 1


async def test_failover() -> None:
    """With one of two upstreams gone every request is answered."""
    async with Upstream.of(WHOLE) as good:
        async with Upstream.of(WHOLE) as gone:
            pass
        guard = guard_of([gone.url, good.url])
        for number in range(10):
            await asked(guard, messages=[{"role": "user", "content": str(number)}])
        assert await guard.is_well()
        await guard.stop()

        assert len(good.requests) == 10


async def test_events_only() -> None:
    """[DONE] from an upstream that has not finished is no end."""
    async with guarded(events(chat_chunk("half", model=SECRET))) as (guard, _):
        told = await streamed(guard)

    assert b"[DONE]" not in told
    assert b'"error"' in told


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        (Route.RESPONSES, UnknownName),
        (Route.EMBEDDINGS, UnknownName),
        (Route.RERANK, UnknownName),
        (Route.CHAT, UpstreamFailed),
    ],
)
async def test_route_that_the_upstream_does_not_have(route: Route, kind: type[ArrieroError]) -> None:
    """Not every upstream embeds or reranks: that is not found, no failure, so nobody can provoke failures."""
    asked: dict[str, Any] = {"query": "a", "documents": ["a"]} if route is Route.RERANK else {"input": "a"}
    body = chat_body() if route is Route.CHAT else msgspec.json.encode({"model": "m"} | asked)
    async with guarded(whole(b'{"detail":"Not Found"}', 404)) as (guard, _):
        with pytest.raises(kind):
            await guard.forward(route, body, [])


@pytest.mark.parametrize(
    ("keys", "kind"), [('forward_headers = ["authorization"]', Unauthorized), (KEY, UpstreamFailed)]
)
async def test_key_that_the_upstream_refuses(keys: str, kind: type[ArrieroError]) -> None:
    """A wrong key is its owner's fault: the caller's where it was passed on, else the operator's."""
    async with guarded(whole(b"{}", 401), upstream_keys=keys) as (guard, _):
        with pytest.raises(kind):
            await guard.forward(Route.CHAT, chat_body(), [(b"authorization", b"Bearer x")])


async def test_route_that_is_not_listed() -> None:
    """The error names the route, as the model is known."""
    async with guarded(WHOLE, keys='routes = ["/v1/chat/completions"]') as (guard, (upstream,)):
        with pytest.raises(UnknownName, match="/v1/rerank"):
            await guard.forward(Route.RERANK, chat_body(), [])
        assert upstream.connections == 0
