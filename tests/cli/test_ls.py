"""`arriero ls`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from arriero.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONFIG = """
[models.local]
path = "a.gguf"
[models.fetched]
url = "http://example.org/b.gguf"
[models.starter]
package = "smollm2-135m-instruct"
[models.remote]
upstream = { urls = ["http://vllm:8000", "http://other"], model = "m" }
[tasks.talk]
model = "local"
[memories.notes]
store = { embedded = {} }
embedding_model = "local"
"""


def written(folder: Path) -> Path:
    """Write the configuration, and the file of weights that it names."""
    (folder / "a.gguf").write_bytes(b"GGUF\3\0\0\0")
    (folder / "a.toml").write_text(CONFIG)
    return folder / "a.toml"


def test_models_tasks_and_memories_are_listed_with_their_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One aligned line for each, in the order of the file; nothing is fetched or loaded."""
    file = written(tmp_path)

    assert run(["ls", "--config", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "KIND    NAME     FROM",
        f"model   local    {tmp_path}/a.gguf",
        "model   fetched  http://example.org/b.gguf",
        "model   starter  smollm2-135m-instruct",
        "model   remote   http://vllm:8000",
        "task    talk     local",
        "memory  notes    local",
    ]


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` the entries are objects."""
    file = written(tmp_path)

    assert run(["ls", "--config", str(file), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries[0] == {"kind": "model", "name": "local", "from": f"{tmp_path}/a.gguf"}
    assert entries[-1] == {"kind": "memory", "name": "notes", "from": "local"}
