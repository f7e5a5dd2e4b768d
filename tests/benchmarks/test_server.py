"""How the servers are started and read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from benchmarks import server


def test_peer_command() -> None:
    """The peer gets the same threads, sessions and cells as Arriero."""
    variant = server.peer("peer", Path("/bin/llama-server"), Path("m.gguf"), threads=2, env={})

    assert " ".join(variant.command) == (
        f"/bin/llama-server -m m.gguf -t 2 -c 16384 -np 16 -kvu --no-webui --port {variant.port}"
    )
    assert variant.is_peer


@pytest.mark.parametrize("library", [None, Path("/lib/libllama.so")])
def test_arriero_config(tmp_path: Path, library: Path | None) -> None:
    """The generated file names the model, its sizes and the library, if there is one."""
    variant = server.arriero("arriero", tmp_path, Path("/m.gguf"), threads=2, library=library)

    config = tomllib.loads((tmp_path / "arriero.toml").read_text())
    assert config["bind_address"] == f"127.0.0.1:{variant.port}"
    assert config["models"]["bench"].get("library") == (str(library) if library else None)
    assert config["models"]["bench"]["kv_cache_tokens"] == 16384
    assert not variant.is_peer


def test_the_counters_of_the_model_are_found() -> None:
    """The engine's numbers are taken out of the statistics."""
    stats = {"tasks": {}, "engine": {"bench": {"steps": 3, "loop_s": 0.5}}}
    assert server.engine_counters(stats) == {"steps": 3, "loop_s": 0.5}


def test_sliding_window_is_read_from_the_head(tmp_path: Path) -> None:
    """The key in the head of the file tells a sliding-window model."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF....gemma3.attention.sliding_window....")
    (tmp_path / "b.gguf").write_bytes(b"GGUF....llama.attention.head_count....")

    assert server.has_sliding_window(tmp_path / "a.gguf")
    assert not server.has_sliding_window(tmp_path / "b.gguf")
