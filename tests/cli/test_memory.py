"""`arriero memory`."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from tests.memory.store_contract import IDENTITY, document, put, units

from arriero.cli.main import run
from arriero.cli.memory import embedding
from arriero.config.load import parse_config
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_reindex import reindex
from arriero.memory.embedding import identity_of
from arriero.memory.records import Chunk
from arriero.memory.sqlite_pool import hold
from arriero.testing.word_embedder import WordEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONFIG = """
cache_path = "{folder}/cache"
[models.embedder]
path = "a.gguf"
[memories.notes]
store = {{ embedded = {{ path = "{folder}/notes.db" }} }}
embedding_model = "embedder"
[memories.empty]
store = {{ embedded = {{ }} }}
embedding_model = "embedder"
[memories.far]
store = {{ qdrant = {{ collection = "c" }} }}
embedding_model = "embedder"
"""


def written(folder: Path) -> list[str]:
    """Write a configuration and one memory; return the options that name it."""
    (folder / "a.gguf").write_bytes(b"GGUF\3\0\0\0")
    (folder / "a.toml").write_text(CONFIG.format(folder=folder))

    async def fill() -> None:
        store = await EmbeddedStore.open(folder / "notes.db", IDENTITY)
        await put(store, "one", "llama")
        await put(store, "two", "alpaca")
        await store.close()

    asyncio.run(fill())
    return ["--config", str(folder / "a.toml")]


def test_memories_are_listed_with_what_they_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those without a file have no counts."""
    options = written(tmp_path)

    assert run(["memory", "list", *options, "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert (entries["notes"]["documents"], entries["notes"]["chunks"]) == (2, 2)
    assert entries["notes"]["store"] == str(tmp_path / "notes.db")
    assert entries["empty"]["documents"] is None
    assert entries["far"]["store"] == "http://localhost:6333"

    assert run(["memory", "list", *options]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:3] == ["NAME", "DOCUMENTS", "CHUNKS"]


def test_a_check_says_whether_a_memory_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0 and one line when it is, also after compacting; 1 and the faults when it is not."""
    options = written(tmp_path)

    assert run(["memory", "check", "notes", *options, "--compact"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/notes.db: whole, 2 documents, 2 chunks\n"

    (tmp_path / "notes.db").write_bytes((tmp_path / "notes.db").read_bytes()[:20_000])
    assert run(["memory", "check", "notes", *options]) == 1
    assert "notes.db" in capsys.readouterr().err


def test_a_memory_is_exported_and_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one memory exports, another one holds after the import."""
    options = written(tmp_path)
    file = tmp_path / "kept.jsonl"

    assert run(["memory", "export", "notes", "-o", str(file), *options]) == 0
    assert run(["memory", "export", "notes", *options]) == 0
    assert capsys.readouterr().out == file.read_text()
    assert run(["memory", "import", "empty", str(file), *options]) == 0

    path = tmp_path / "cache" / "memories" / "empty.db"
    assert capsys.readouterr().out == f"{path}: stored 2 documents, 2 chunks\n"
    assert run(["memory", "check", "empty", *options]) == 0


def test_wrong_names_and_files_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No memory of the name, no file of the memory, nothing in it yet, not an export."""
    options = written(tmp_path)

    assert run(["memory", "check", "other", *options]) == 2
    assert 'no memory "other"; the configuration names: notes, empty, far' in capsys.readouterr().err
    assert run(["memory", "export", "far", *options]) == 2
    assert "memories.far: has no file" in capsys.readouterr().err
    assert run(["memory", "check", "empty", *options]) == 2
    assert "there is no such memory" in capsys.readouterr().err
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    assert run(["memory", "import", "empty", str(tmp_path / "bad"), *options]) == 1
    assert f"{tmp_path / 'bad'}: not an export" in capsys.readouterr().err


def test_reindexing_loads_no_model_for_a_memory_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that has it open is told of first; the model of this configuration could not be loaded."""
    options = written(tmp_path)
    lock = hold(tmp_path / "notes.db")

    assert run(["memory", "reindex", "notes", *options]) == 1
    assert "notes.db: another process has this memory open" in capsys.readouterr().err
    os.close(lock)


async def test_reindexing_embeds_what_ingesting_embeds(tmp_path: Path) -> None:
    """Prefix and headings come before the text, as far as the new model has room for them."""
    remote = CONFIG.format(folder=tmp_path).replace('path = "a.gguf"', 'url = "http://127.0.0.1:1/a.gguf"')
    config = parse_config(remote + 'chunk_prefix = "passage: "\n', {}).memories["far"]
    embedder = WordEmbedder(dimensions=8, context_size=12)
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, IDENTITY)
    chunks = [
        Chunk(ordinal=0, text="hay", num_tokens=999, section=("Guide", "Feeding")),
        Chunk(ordinal=1, text="one two three four five six", section=("Guide", "Feeding")),
    ]
    await store.replace(document("d", 2), chunks, units([1, 0, 0, 0], [0, 1, 0, 0]))
    await store.close()

    await reindex(path, identity_of(embedder), embedding(config, embedder))

    assert [text for batch in embedder.batches for text in batch] == [
        "passage: Guide > Feeding\nhay",
        "passage: Feeding\none two three four five six",
    ]
