"""What a sidecar of the Pocket network must bear, by a Poncho file, through a real server.

The file is Poncho's own form; the upstream is scripted, counts prompts as it is told, and notes what it is
sent to generate.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.flows.process import DEADLINE_S
from tests.flows.sidecar import (
    CHAT,
    COMPLETIONS,
    CONTEXT,
    LIMIT,
    PUBLIC,
    REAL,
    TEXT,
    Sidecar,
    before_upstream,
    long_chat,
    turns,
)

from arriero.testing.upstream import Answer, End, chat, whole


@pytest.fixture(scope="module")
async def rejects(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sidecar]:
    """One that rejects what is over a limit, and allows log probabilities."""
    async with before_upstream(tmp_path_factory.mktemp("rejects"), crop=False, logprobs=True) as sidecar:
        yield sidecar


@pytest.fixture
def strict(rejects: Sidecar) -> Sidecar:
    """The rejecting one, its upstream as new."""
    rejects.backend.__init__()  # type: ignore[misc]
    return rejects


@pytest.mark.parametrize(
    "model", [{"model": PUBLIC}, {"model": "anything/else"}, {}, {"model": None}, {"model": 7}]
)
async def test_model(sidecar: Sidecar, model: dict[str, Any]) -> None:
    """Rows 1 to 4: whatever a request names, the upstream gets its own name and the caller the public one."""
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 10} | model)

    assert (response.status_code, response.json()["model"]) == (200, PUBLIC)
    assert sidecar.sent == {"messages": turns(), "max_tokens": 10, "model": REAL}


async def test_text_is_left_alone(sidecar: Sidecar) -> None:
    """Rows 6 and 96: the real name in a message, and in what the model says, stays."""
    messages = turns(f'I ask {REAL}: "model":"x"')
    responses = [
        await sidecar.post(CHAT, {"messages": messages, "max_tokens": 1, "seed": seed}) for seed in range(5)
    ]

    assert {received.json["messages"][0]["content"] for received in sidecar.backend.generations} == {
        messages[0]["content"]
    }
    said = {response.json()["choices"][0]["message"]["content"] for response in responses}
    assert said == {f"I am {REAL}"}


async def test_extra_members(sidecar: Sidecar) -> None:
    """Row 7: members of the known kind go along, in their order."""
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
    body |= {"max_tokens": 3, "chat_template_kwargs": {"b": 1, "a": 2}, "model": "x"}  # type: ignore[dict-item]
    response = await sidecar.post(CHAT, body)

    assert response.status_code == 200
    assert json.dumps(sidecar.sent) == json.dumps(body | {"model": REAL})


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1], [2, 3]], ["a", "b"], "a"])
async def test_prompts(sidecar: Sidecar, prompt: Any) -> None:
    """Row 9: prompts of every form go along as they are."""
    response = await sidecar.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 5})

    assert response.status_code == 200
    assert sidecar.sent["prompt"] == prompt


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "Application/JSON"]
)
async def test_content_types(sidecar: Sidecar, media_type: str) -> None:
    """Row 12: the rules hold whatever the content type says."""
    refused = await sidecar.post(
        CHAT, {"messages": turns(), "logprobs": True}, **{"content-type": media_type}
    )
    served = await sidecar.post(
        CHAT, {"messages": turns(), "max_tokens": 5000}, **{"content-type": media_type}
    )

    assert (refused.status_code, served.status_code) == (400, 200)
    assert sidecar.sent["max_tokens"] == LIMIT


@pytest.mark.parametrize(
    "body",
    [b"[1]", b'"x"', b"null", b"", b"{", b'\xef\xbb\xbf{"messages":[]}', '{"messages":[]}'.encode("utf-16")],
)
async def test_bodies_that_are_none(sidecar: Sidecar, body: bytes) -> None:
    """Rows 13 and 15: what is no JSON object in UTF-8 is the caller's fault, and goes nowhere."""
    response = await sidecar.post(CHAT, body)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert sidecar.backend.generations == []


@pytest.mark.parametrize(
    ("members", "tokens", "limits"),
    [
        ({"max_tokens": 10}, None, {"max_tokens": 10}),  # 16
        ({"max_tokens": 16000}, 100, {"max_tokens": 1024}),  # 17
        ({"max_completion_tokens": 8192}, 3500, {"max_completion_tokens": 596}),  # 18
        ({}, 100, {"max_tokens": 1024}),  # 19
        ({}, 4000, {"max_tokens": 96}),  # 20
        ({"max_tokens": None}, 100, {"max_tokens": 1024}),  # 24
        ({"max_tokens": 1000}, 4000, {"max_tokens": 96}),  # 27
        (
            {"max_tokens": 1, "max_completion_tokens": 10**6},
            100,
            {"max_tokens": 1, "max_completion_tokens": 1024},
        ),
    ],
)
async def test_chat_limits(
    sidecar: Sidecar, members: dict[str, Any], tokens: int | None, limits: dict[str, int]
) -> None:
    """Rows 16 to 20, 24, 27: the limit is what the rules and the prompt leave; one generation is paid for."""
    sidecar.backend.tokens = tokens or 0
    body = {"messages": turns()} | members if tokens is None else long_chat(tokens, **members)
    response = await sidecar.post(CHAT, body)

    assert response.status_code == 200
    assert {key: value for key, value in sidecar.sent.items() if "tokens" in key} == limits


@pytest.mark.parametrize("tokens", [4096, 5000])
async def test_prompt_that_does_not_fit(sidecar: Sidecar, tokens: int) -> None:
    """Rows 21 and 22: a prompt that leaves no room is the caller's fault."""
    sidecar.backend.tokens = tokens
    response = await sidecar.post(CHAT, long_chat(tokens))

    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert sidecar.backend.generations == []


async def test_rejecting(strict: Sidecar) -> None:
    """Rows 28 to 30: where nothing is cropped, what is over a limit is refused; no limit still gets one."""
    over = await strict.post(CHAT, {"messages": turns(), "max_tokens": 2000})
    strict.backend.tokens = 4000
    beyond = await strict.post(CHAT, long_chat(4000, max_tokens=1000))
    assert strict.backend.generations == []
    strict.backend.tokens = 100
    served = await strict.post(CHAT, long_chat(100))

    assert (over.status_code, beyond.status_code, served.status_code) == (400, 400, 200)
    assert "1024" in over.json()["error"]["message"]
    assert strict.sent["max_tokens"] == LIMIT


@pytest.mark.parametrize(
    ("members", "tokens", "limit"),
    [
        ({"prompt": "short"}, 5, (None, 16)),  # 31
        ({"prompt": "word " * 900, "max_tokens": 8192}, 50, (1024,)),  # 32
        ({"prompt": [[1] * 10, [1] * 4000], "max_tokens": 1000}, 0, (96,)),  # 34
    ],
)
async def test_completion_limits(
    sidecar: Sidecar, members: dict[str, Any], tokens: int, limit: tuple[int | None, ...]
) -> None:
    """Rows 31 to 34: completions are bounded too, by their longest prompt."""
    sidecar.backend.tokens = tokens
    response = await sidecar.post(COMPLETIONS, members)

    assert response.status_code == 200
    assert sidecar.sent.get("max_tokens") in limit


async def test_likelihoods(strict: Sidecar) -> None:
    """Rows 35 and 48: the request of a test bench goes unchanged, and its numbers come back to the digit."""
    told = "[null,-0.12345678901234567,-1e-09,-5.0]"
    answer = json.dumps(TEXT).replace('"text": "x"', f'"text":"x","logprobs":{{"token_logprobs":{told}}}')
    strict.backend.script = whole(answer.encode())
    body = {"model": "pocket_network", "prompt": [1, 2, 3], "echo": True, "logprobs": 5, "max_tokens": 0}
    body |= {"seed": 1234, "temperature": 0.0}
    response = await strict.post(COMPLETIONS, body)

    assert strict.sent == body | {"model": REAL}
    assert f'"token_logprobs":{told}' in response.text


async def test_image(sidecar: Sidecar) -> None:
    """Row 37: a prompt that cannot be counted here is counted there; one generation."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    sidecar.backend.tokens = 3500
    response = await sidecar.post(CHAT, {"messages": [{"role": "user", "content": [image]}]})

    assert response.status_code == 200
    assert sidecar.sent["max_tokens"] == 596


async def test_refusal_of_the_upstream(sidecar: Sidecar) -> None:
    """Rows 39 and 52: the upstream's own refusal is told, in OpenAI's form and without its name."""
    said = {"object": "error", "message": f"The model `{REAL}` has no role x", "code": 400}
    sidecar.backend.script = whole(said, 400, headers={"server": "uvicorn", "x-served-by": REAL})
    response = await sidecar.post(CHAT, {"messages": [{"role": "x", "content": "y"}]})

    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"The model `{PUBLIC}` has no role x"
    assert REAL not in str(response.headers)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": turns(), "n": 10_000}),  # 40
        (COMPLETIONS, {"prompt": "x", "best_of": 64}),
        (COMPLETIONS, {"prompt": ["x"] * 10_000}),
        (CHAT, {"messages": turns(), "logprobs": True, "top_logprobs": 5}),  # 43
        (CHAT, {"messages": turns(), "prompt_logprobs": 1}),  # 45
        (CHAT, {"messages": turns(), "prompt_logprobs": 0}),
        ("/v1/embeddings", {"input": ["x"] * 4}),  # 62
        ("/v1/rerank", {"query": "q", "documents": ["x"] * 101}),  # 64
        ("/v1/rerank", {"query": "q", "documents": {"content": ["x"] * 101}}),
    ],
)
async def test_refused(sidecar: Sidecar, path: str, body: dict[str, Any]) -> None:
    """Rows 40, 43, 45, 62, 64: what is over a bound or not allowed never reaches the upstream."""
    response = await sidecar.post(path, body)

    assert response.status_code == 400
    assert sidecar.backend.generations == []


async def test_responses(sidecar: Sidecar) -> None:
    """Row 42: the responses route has the same limit, and no name within."""
    sidecar.backend.script = whole({"object": "response", "model": REAL, "output": []})
    over = await sidecar.post("/v1/responses", {"input": "x", "max_output_tokens": 99999})
    absent = await sidecar.post("/v1/responses", {"input": "x"})

    assert [received.json["max_output_tokens"] for received in sidecar.backend.generations] == [LIMIT] * 2
    assert {received.json["model"] for received in sidecar.backend.generations} == {REAL}
    assert (over.json()["model"], absent.json()["model"]) == (PUBLIC, PUBLIC)


@pytest.mark.parametrize("members", [{"logprobs": False}, {"logprobs": None}])
async def test_no_logprobs_asked(sidecar: Sidecar, members: dict[str, Any]) -> None:
    """Rows 44 and 47: to ask for none is no fault, and none are told though the upstream gives some."""
    answer = chat("x", model=REAL)
    answer["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": -1}]}
    sidecar.backend.script = whole(answer)
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1} | members)

    assert response.status_code == 200
    assert response.json()["choices"][0].get("logprobs") is None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (whole(chat("x", model=REAL) | {"system_fingerprint": "vllm-0.15-H100-tp8"}), 200),  # 50
        (whole(b"Internal Server Error", 500, content_type="text/plain"), 502),  # 53
        (whole(chat("x", model=REAL), gzipped=True), 200),  # 56
        (whole(b"", 307, headers={"location": "http://internal/"}), 502),  # 58
        (Answer((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",), End.RESET), 502),  # 65
        (Answer((), End.RESET), 502),
    ],
)
async def test_answers(sidecar: Sidecar, answer: Answer, status: int) -> None:
    """Rows 50, 53, 56, 58, 65: nothing of the upstream is told; its failures are not the caller's fault."""
    sidecar.backend.script = answer
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1})

    assert response.status_code == status
    assert (response.json().get("model") == PUBLIC) == (status == 200)
    for secret in (REAL, "H100", "internal", str(sidecar.upstream.port)):
        assert secret not in response.text + str(response.headers)


async def test_empty_answer(sidecar: Sidecar) -> None:
    """Row 55: an empty answer stays empty."""
    sidecar.backend.script = whole(b"")
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1})

    assert (response.status_code, response.content) == (200, b"")


async def test_listing(sidecar: Sidecar) -> None:
    """Row 59: the list has one entry with the public name, and no upstream is asked."""
    listing = (await sidecar.client.get("/v1/models")).json()

    assert [model["id"] for model in listing["data"]] == [PUBLIC]
    assert "root" not in json.dumps(listing)
    assert sidecar.backend.generations == []


async def test_vectors(sidecar: Sidecar) -> None:
    """Row 62: vectors keep their digits; the name does not stay."""
    response = await sidecar.post("/v1/embeddings", {"input": ["a", "b", "c"]})

    assert response.json()["model"] == PUBLIC
    assert "[0.1,-1e-09,1.1]" in response.text.replace(" ", "")


async def test_payload(sidecar: Sidecar) -> None:
    """Rows 84 and 86: exactly the limit is served; a byte more is 413, in JSON, for browsers to read too."""
    start, end = b'{"max_tokens":1,"messages":[{"role":"user","content":"', b'"}]}'
    text = b"x" * (1024 * 1024 - len(start + end))
    sidecar.backend.tokens = 5
    served = await sidecar.post(CHAT, start + text + end)
    refused = await sidecar.post(CHAT, start + text + b"x" + end, origin="http://a.example")

    assert (served.status_code, refused.status_code) == (200, 413)
    assert "message" in refused.json()["error"]
    assert refused.headers["access-control-allow-origin"] == "*"


async def test_key_of_the_caller(sidecar: Sidecar) -> None:
    """Row 87: as in Poncho, the caller's key goes to the upstream; no other header of the caller does."""
    await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1}, authorization="Bearer x", cookie="a=b")

    (received,) = sidecar.backend.generations
    assert received.headers["authorization"] == "Bearer x"
    assert "cookie" not in received.headers


async def test_query(sidecar: Sidecar) -> None:
    """Row 89: a query goes nowhere."""
    await sidecar.post(f"{CHAT}?a=1&a=2&b=%26%3D+x", {"messages": turns(), "max_tokens": 1})

    assert [received.path for received in sidecar.backend.generations] == [CHAT]


async def test_preflight(sidecar: Sidecar) -> None:
    """Row 90: browsers may ask from anywhere."""
    headers = {"origin": "http://a.example", "access-control-request-method": "POST"}
    response = await sidecar.client.options(CHAT, headers=headers)

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert sidecar.backend.generations == []


async def test_pokt(sidecar: Sidecar) -> None:
    """Rows 92 to 94: the hidden configuration and its hash; a tokenizer that nobody has is not found."""
    sidecar.backend.script = whole(b"", 404)
    config = await sidecar.client.get("/pokt/config")
    its_hash = await sidecar.client.get("/pokt/config-hash")
    tokenizer = await sidecar.client.get("/pokt/tokenizer")

    assert config.json()["config"]["max_position_embeddings"] == CONTEXT
    assert its_hash.json()["hash"].startswith("aecaaf20")
    assert (tokenizer.status_code, tokenizer.json()["status"]) == (404, 404)


ELSEWHERE = """
/v1/../metrics /v1/%2e%2e/metrics /v1/..%2fmetrics /metrics /docs /invocations /v1/load_lora_adapter
/v1/unload_lora_adapter /v1/chat/completions/render /v1/completions/render /v1/messages /v1/score /score
/pooling /inference/v1/generate /server_info /tokenizer_info /sleep /collective_rpc /tokenize /detokenize
/v1/%63hat/completions /v1/%65mbeddings /v1/embeddings/ /v1/rerank/ /v1/models/ //v1/chat/completions
/v1/chat/completions%3Fx /v1/chat/completions;x /V1/chat/completions /v1/chat/completions/
http://127.0.0.1/metrics
"""


async def test_other_paths(sidecar: Sidecar) -> None:
    """Row 61: whatever else an upstream serves, in whatever spelling, is not reached, and tells nothing."""
    content = json.dumps({"messages": turns(), "max_tokens": 1}).encode()
    host, port = sidecar.client.base_url.host, sidecar.client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    sidecar.upstream.requests.clear()
    for path in ELSEWHERE.split():
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        length = int(told.partition(b"content-length: ")[2].split(b"\r\n")[0])
        told += await reader.readexactly(length)

        assert told.split()[1] in (b"400", b"404", b"405"), (path, told)
        assert REAL.encode() not in told
    writer.close()
    assert [received.path for received in sidecar.upstream.requests] == []
