"""`/pokt/*` over HTTP: the wire form of the Python sidecar of the Pocket network."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from arriero.testing.serving import client_of
from arriero.testing.upstream import Answer, End, Upstream, whole

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "pokt"
NAMES = ("config", "config-hash", "tokenizer", "tokenizer-hash")
SECRET = "org/Secret-Model-7B"
MODEL = """
[models.r]
public_name = "pocket_network"
{keys}
[models.r.upstream]
urls = ["{url}"]
model = "{name}"
"""
NOWHERE = "http://127.0.0.1:1"

Remote = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def remote(serving: Any) -> Remote:
    """Serve a remote model with these keys: `async with remote(keys) as client`."""

    def serve(
        keys: str = "max_context = 4096", *, url: str = NOWHERE, pokt: str = "", **options: Any
    ) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        extra = f"[pokt]\n{pokt}\n" + MODEL.format(keys=keys, url=url, name=SECRET)
        served: AbstractAsyncContextManager[httpx2.AsyncClient] = serving(extra=extra, **options)
        return served

    return serve


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A model directory of the vectors: a tokenizer with its template in a file, and a configuration."""
    if not VECTORS.exists():
        pytest.skip("the vectors of /pokt/* do not lie beside the repository")
    for source in ("V3_tokenizer_dir_saved_by_4.57.1", "V2_llama_dir"):
        shutil.copytree(VECTORS / "input" / source, tmp_path, dirs_exist_ok=True)
    return tmp_path


async def test_vectors_of_a_directory(remote: Remote, published: Path) -> None:
    """Bodies and hashes of a directory are those of the vectors, and each hash is that of its body."""
    hashes = json.loads((VECTORS / "hashes.json").read_text())
    keys = f'max_context = 4096\ntokenizer_path = "{published}"'
    async with remote(keys, pokt='model = "r"\nreveal_config = true') as client:
        answers = {name: await client.get(f"/pokt/{name}") for name in NAMES}

    assert {answer.status_code for answer in answers.values()} == {200}
    assert {answer.headers["content-type"] for answer in answers.values()} == {"application/json"}
    tokenizer = hashes["V3_tokenizer(from dir saved by 4.47.0)"]
    assert answers["config-hash"].json() == {"hash": hashes["V2_config_llama"]["raw_file_served_as_is"]}
    assert answers["tokenizer-hash"].json() == {
        "hash": tokenizer["raw_files_served_as_is(model_max_length stringified)"]
    }
    assert answers["config"].json() == {"config": json.loads((published / "config.json").read_text())}
    assert sorted(answers["tokenizer"].json()) == ["special_tokens_map", "tokenizer", "tokenizer_config"]
    for kind in ("config", "tokenizer"):
        body = answers[kind].content
        assert body == json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode()


async def test_hidden_configuration(remote: Remote) -> None:
    """A remote model's configuration tells its public name and its context, byte for byte."""
    async with remote() as client:
        config, its_hash = await client.get("/pokt/config"), await client.get("/pokt/config-hash")

    assert config.content == (
        b'{"config":{"max_position_embeddings":4096,"model_name":"pocket_network",'
        b'"pokt_network_custom":true,"transformers_version":"4.47.0"}}'
    )
    assert its_hash.content == (
        b'{"hash":"aecaaf208ff5223cb303d47fefe098abe2c259bdae5f76733be210bf4c4df62b"}'
    )


async def test_as_the_test_bench_asks(remote: Remote, address_of: Any) -> None:
    """A GET with a content type and an empty body in chunks is answered."""
    async with remote() as client:
        reader, writer = await asyncio.open_connection(*address_of(client))
        head = "GET /pokt/config HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\nconnection: close\r\n"
        writer.write(
            f"{head}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"pokt_network_custom":true' in answer


async def test_tokenizer_that_is_not_there(remote: Remote) -> None:
    """Without a directory, before a server that publishes none, the answer names the missing key."""
    async with Upstream.of(whole(b"", 404)) as upstream, remote(url=upstream.url) as client:
        missing = await client.get("/pokt/tokenizer")
        config = await client.get("/pokt/config")

    assert (missing.status_code, config.status_code) == (404, 200)
    assert missing.headers["content-type"] == "application/problem+json"
    assert "tokenizer_path is not set" in missing.json()["detail"]


async def test_no_model(serving: Any) -> None:
    """With several models and no word which of them, the answer names the key."""
    async with serving() as client:
        responses = [await client.get(f"/pokt/{name}") for name in NAMES]

    assert {response.status_code for response in responses} == {404}
    assert all("pokt.model" in response.json()["detail"] for response in responses)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/pokt", 404),
        ("GET", "/pokt/", 404),
        ("GET", "/pokt/vocab", 404),
        ("GET", "/pokt/config/", 404),
        ("GET", "/pokt/../config", 404),
        ("POST", "/pokt/config", 405),
        ("PUT", "/pokt/tokenizer", 405),
        ("DELETE", "/pokt/config-hash", 405),
        ("HEAD", "/pokt/config", 200),
    ],
)
async def test_other_requests(remote: Remote, method: str, path: str, status: int) -> None:
    """Other names are not found, other methods not allowed."""
    async with remote() as client:
        response = await client.request(method, path)

    assert response.status_code == status
    assert status == 200 or response.json()["status"] == status


async def test_keys(remote: Remote) -> None:
    """The documents need a key like everything else, unless the server is public."""
    async with remote() as client, client_of(client.base_url) as stranger:
        assert {(await stranger.get(f"/pokt/{name}")).status_code for name in NAMES} == {401}
    async with remote(public=True) as client, client_of(client.base_url) as stranger:
        assert (await stranger.get("/pokt/config")).status_code == 200


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (whole(b"", 500), 502),
        (whole(b"", 503), 503),
        (Answer((), End.RESET), 502),
        (Answer((), End.STALL), 504),
    ],
)
async def test_failing_upstream(remote: Remote, answer: Answer, status: int) -> None:
    """An upstream that fails is told without its address, and its documents come when it is well again."""
    tokenizer = {"tokenizer": {"version": "1.0"}, "tokenizer_config": {}}
    async with Upstream.of(answer, whole(tokenizer)) as upstream:
        async with remote("timeouts.first_byte_s = 0.1", url=upstream.url) as client:
            failed = await client.get("/pokt/tokenizer")
            served = await client.get("/pokt/tokenizer")

        assert failed.status_code == status
        assert str(upstream.port) not in failed.text
        assert (served.status_code, served.json()) == (200, tokenizer)


async def test_many_at_once(remote: Remote) -> None:
    """Requests that come while the first is answered share its work."""
    held = asyncio.Event()
    tokenizer = whole({"tokenizer": {}, "tokenizer_config": {}})
    async with Upstream.of(Answer((held, *tokenizer.parts))) as upstream:
        async with remote(url=upstream.url) as client:
            asked = [asyncio.ensure_future(client.get(f"/pokt/{name}")) for name in NAMES[2:] * 4]
            while not upstream.requests:  # noqa: ASYNC110 - what is watched has no event
                await asyncio.sleep(0.01)
            held.set()
            responses = await asyncio.gather(*asked)

        assert {response.status_code for response in responses} == {200}
        assert len(upstream.requests) == 1
