"""From where the documents of /pokt/* come: they are made once, and a failure is not kept."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.guard.remote import SECRET

from arriero.config.load import parse_config
from arriero.errors import ConfigError, Overloaded, UnknownName
from arriero.guard.failure import UpstreamFailed
from arriero.guard.forward import Guard
from arriero.guard.pokt import NAMES, PoktDocuments, canonical_hash, hidden_config
from arriero.guard.pokt_source import UNUSABLE, Once, PoktSource, open_source
from arriero.testing.tiny_gguf import write_tiny_gguf
from arriero.testing.upstream import Answer, Received, Script, Upstream, whole

LISTING = whole({"data": [{"id": SECRET, "max_model_len": 4096}]})
TOKENIZER = {"tokenizer": {"version": "1.0"}, "tokenizer_config": {"model_max_length": 512}}


@asynccontextmanager
async def remote_source(
    *scripts: Script, keys: str = "", pokt: str = ""
) -> AsyncIterator[tuple[PoktSource, Upstream]]:
    """Give the source of the remote model `m`, and its upstream."""
    async with Upstream.of(*scripts) as upstream:
        text = (
            f"[auth]\npublic = true\n[pokt]\n{pokt}\n[models.m]\n{keys}\n[models.m.upstream]\n"
            f'urls = ["{upstream.url}"]\nmodel = "{SECRET}"\n'
        )
        config = parse_config(text, {})
        guard = Guard.from_config("m", config.remote_models["m"], max_body_bytes=1000)
        try:
            source = await open_source(config, weights={}, guards={"m": guard})
            assert source is not None
            yield source, upstream
            await source.stop()
        finally:
            await guard.stop()


def local_config(file: Path, pokt: str = "") -> Any:
    """Return the configuration of a local model."""
    return parse_config(f'[pokt]\n{pokt}\n[models.m]\nmodel_path = "{file}"\ncontext_size = 100\n', {})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory."""
    files = TOKENIZER | {"config": {"model_type": "llama", "max_position_embeddings": 64}}
    for stem, value in files.items():
        (tmp_path / f"{stem}.json").write_text(json.dumps(value))
    return tmp_path


async def test_once() -> None:
    """However many ask at the same time or later, the value is made once."""
    num_made = 0

    async def make() -> int:
        nonlocal num_made
        await asyncio.sleep(0)
        num_made += 1
        return num_made

    once = Once(make)

    assert await asyncio.gather(*(once.get() for _ in range(5))) == [1] * 5
    assert await once.get() == 1


async def test_failures_are_not_kept() -> None:
    """A failure is told to all who wait; who comes later gets another try."""
    failures = [Overloaded("too much")]

    async def make() -> str:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return "made"

    once = Once(make)
    first = await asyncio.gather(*(once.get() for _ in range(3)), return_exceptions=True)

    assert [type(found) for found in first] == [Overloaded] * 3
    assert await once.get() == "made"


async def test_who_leaves_ends_nothing() -> None:
    """The work goes on for the others when one of those who wait leaves."""
    go = asyncio.Event()

    async def make() -> str:
        await go.wait()
        return "made"

    once = Once(make)
    leaving, staying = asyncio.ensure_future(once.get()), asyncio.ensure_future(once.get())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    go.set()

    assert await staying == "made"


async def test_stop_ends_the_work() -> None:
    """Work that is under way ends with the source."""

    async def make() -> str:
        await asyncio.Event().wait()
        return "never"

    once = Once(make)
    waiting = asyncio.ensure_future(once.get())
    await asyncio.sleep(0)
    await once.stop()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_several_models() -> None:
    """Where nothing says of which model, there is no source; the only remote model needs no saying."""
    local = "[models.a]\nurl = 'http://h/a'\n[models.b]\nurl = 'http://h/b'\n"
    remote = '[models.r]\nmax_context = 9\n[models.r.upstream]\nurls = ["http://h"]\nmodel = "x"\n'

    assert await open_source(parse_config(local, {}), weights={}, guards={}) is None
    assert parse_config(local + remote, {}).pokt_model == "r"


@pytest.mark.parametrize(("reveal", "is_told"), [("", True), ("reveal_config = false", False)])
async def test_gguf(tmp_path: Path, reveal: str, is_told: bool) -> None:
    """A local model's documents are those of its file; its configuration can be hidden."""
    file = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2")
    source = await open_source(local_config(file, reveal), weights={"m": file}, guards={})
    assert source is not None
    answers = {name: await source.answer(name) for name in NAMES}

    expected = PoktDocuments.from_gguf(file, max_context=100)
    assert answers["tokenizer"] == expected.answer("tokenizer")
    config = expected.config if is_told else hidden_config("m", 100)
    assert config is not None
    assert (answers["config"], answers["config-hash"]) == (config.body, config.hash_body)
    for kind in ("config", "tokenizer"):
        assert json.loads(answers[f"{kind}-hash"])["hash"] == canonical_hash(json.loads(answers[kind]))


async def test_gguf_is_read_once(tmp_path: Path) -> None:
    """After the first answers the file is not read again, and both documents came of one reading."""
    file = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2")
    source = await open_source(local_config(file), weights={"m": file}, guards={})
    assert source is not None
    first = await source.answer("config")
    file.unlink()

    assert await asyncio.gather(*(source.answer("config") for _ in range(3))) == [first] * 3
    assert b"tokenizer_config" in await source.answer("tokenizer")


async def test_broken_gguf(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with a file is for the log; callers learn that there is nothing."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF\3\0\0\0")
    source = await open_source(local_config(file), weights={"m": file}, guards={})
    assert source is not None

    for name in NAMES:
        with pytest.raises(UnknownName, match=UNUSABLE) as caught:
            await source.answer(name)
        assert str(tmp_path) not in caught.value.message
    assert str(file) in caplog.text


async def test_upstream_is_not_asked_for_a_context_that_is_configured() -> None:
    """With max_context the configuration needs no upstream."""
    async with remote_source(whole(b"", 500), keys="max_context = 64") as (source, upstream):
        assert await source.answer("config") == hidden_config("m", 64).body
        assert upstream.connections == 0


async def test_upstream_that_tells() -> None:
    """Without max_context the upstream's list of models tells the context; it is asked once."""
    async with remote_source(LISTING) as (source, upstream):
        assert await source.answer("config") == hidden_config("m", 4096).body
        assert await source.answer("config-hash") == hidden_config("m", 4096).hash_body
        assert [(got.method, got.path) for got in upstream.requests] == [("GET", "/v1/models")]


async def test_upstream_that_is_a_sidecar() -> None:
    """An upstream's tokenizer is passed on, asked for once."""
    async with remote_source(whole(TOKENIZER)) as (source, upstream):
        bodies = await asyncio.gather(*(source.answer("tokenizer") for _ in range(4)))

        assert {json.loads(body)["tokenizer_config"]["model_max_length"] for body in bodies} == {"512"}
        assert [got.path for got in upstream.requests] == ["/pokt/tokenizer"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (whole(b"", 500), UpstreamFailed),
        (whole(b"", 302, headers={"location": "http://x"}), UnknownName),
        (whole(b"", 404), UnknownName),
        (whole(b"", 401), UnknownName),
        (whole(b"<html>"), UnknownName),
        (whole(b"", 429), Overloaded),
        (whole(b"", 503), Overloaded),
    ],
)
async def test_upstream_that_has_nothing(answer: Answer, error: type[Exception]) -> None:
    """What an upstream lacks or fails at is an error without its address, and it is asked again."""
    answers = [answer, whole(TOKENIZER)]

    def script(received: Received) -> Answer:
        return answers.pop(0)

    async with remote_source(script) as (source, upstream):
        with pytest.raises(error) as caught:
            await source.answer("tokenizer")

        assert str(upstream.port) not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert b"tokenizer_config" in await source.answer("tokenizer")


async def test_directory(directory: Path) -> None:
    """A directory is read at the start; its configuration is told only where the operator says so."""
    keys = f'max_context = 99\ntokenizer_path = "{directory}"'
    async with remote_source(whole(b"", 500), keys=keys) as (hidden, upstream):
        async with remote_source(whole(b"", 500), keys=keys, pokt="reveal_config = true") as (open_one, _):
            shutil.rmtree(directory)

            assert await hidden.answer("config") == hidden_config("m", 99).body
            assert json.loads(await open_one.answer("config"))["config"]["model_type"] == "llama"
            assert await hidden.answer("tokenizer") == await open_one.answer("tokenizer")
        assert upstream.connections == 0


async def test_broken_directory(directory: Path) -> None:
    """A faulty directory stops the start if [pokt] names its model; else only its document is missing."""
    (directory / "tokenizer_config.json").unlink()
    keys = f'max_context = 99\ntokenizer_path = "{directory}"'
    async with remote_source(whole(b"", 500), keys=keys) as (source, _):
        assert await source.answer("config") == hidden_config("m", 99).body
        with pytest.raises(UnknownName, match=UNUSABLE):
            await source.answer("tokenizer")

    with pytest.raises(ConfigError, match=r"tokenizer_config\.json is missing"):
        async with remote_source(whole(b"", 500), keys=keys, pokt='model = "m"'):
            pass


@pytest.mark.parametrize("name", ["", "vocab", "config-hash-hash", "x" * 10_000])
async def test_unknown_name(name: str) -> None:
    """Nothing else is answered, and nobody is asked for it."""
    async with remote_source(LISTING) as (source, upstream):
        with pytest.raises(UnknownName) as caught:
            await source.answer(name)

        assert len(caught.value.message) < 200
        assert upstream.connections == 0
