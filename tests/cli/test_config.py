"""`arriero config`."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from arriero.cli.main import run
from arriero.cli.source import STARTER

if TYPE_CHECKING:
    from pathlib import Path


def test_check_says_what_a_good_configuration_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """The starter passes its own check."""
    assert run(["config", "check", "--starter"]) == 0
    assert capsys.readouterr() == (f"{STARTER}: good, 2 models, 8 tasks, 1 memory\n", "")


def test_check_refuses_with_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong key ends with status 2 and one message that names its place."""
    file = tmp_path / "a.toml"
    file.write_text('[models.m]\npath = "x.gguf"\ncontext_sise = 5\n')

    assert run(["config", "check", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}:3" in err
    assert "context_size" in err
    assert "Traceback" not in err


def test_show_prints_what_is_in_force_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defaults and the environment are in it, keys are not."""
    file = tmp_path / "a.toml"
    file.write_text('allowed_keys = ["secret-key"]\n')
    monkeypatch.setenv("ARRIERO_SERVER__MAX_CONCURRENT", "5")

    assert run(["config", "show", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    shown = tomllib.loads(out)
    assert shown["server"]["max_concurrent"] == 5
    assert shown["server"]["bind_address"] == "127.0.0.1:3000"
    assert "secret-key" not in out


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Editors get a JSON Schema of the file."""
    assert run(["config", "schema"]) == 0
    assert "$schema" in json.loads(capsys.readouterr().out)


def test_starter_prints_the_packaged_file(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is the file itself, comments included."""
    assert run(["config", "starter"]) == 0
    assert capsys.readouterr().out == STARTER.read_text()


def test_a_configuration_of_poly_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration of Poly passes, without warnings."""
    file = tmp_path / "a.toml"
    file.write_text(
        'jwt_private_key = { symmetric = "0123456789abcdef0123456789abcdef" }\n'
        '[models.m]\npackage = "smollm2-135m-instruct"\n'
        '[memories.notes]\nembedding_model = "m"\nchunk_separators = ["."]\nstore = { hora = {} }\n'
        '[tasks.t]\nmodel = "m"\nbiaser = { json_schema = { type = "boolean" } }\n'
        'memorization = { memory = "notes", retrieve = 2 }\n'
    )

    assert run(["config", "check", "--config", str(file)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", [["config", "check"], ["config", "show"], ["serve"], ["chat", "t"]])
def test_a_wrong_constraint_is_told_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    """Every verb that reads a configuration names file, line and key, and exits with 2."""
    file = tmp_path / "a.toml"
    file.write_text(
        '[models.m]\npackage = "smollm2-135m-instruct"\n[tasks.t]\nmodel = "m"\nbiaser.choice = []\n'
    )

    assert run([*verb, "--config", str(file)]) == 2
    assert f"{file}:5: tasks.t.biaser.choice: " in capsys.readouterr().err


def test_a_file_of_poncho_is_checked_and_shown_by_the_same_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config show` prints it as our TOML, which loads again."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "log_level: info\nserver: {host: 127.0.0.1, port: 8080}\n"
        "vllm_backend: {host: 'http://vllm', port: 8000, model_name_override: real,\n"
        "  allow_logprobs: false, crop_max_tokens: true}\n"
        "routing: {timeout_seconds: 600, max_payload_size_mb: 10}\n"
        "model_config_data: {model_public_name: p, max_position_embeddings: 9, max_tokens: 8}\n"
    )

    assert run(["config", "check", "--config", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}: good, 1 model, 0 tasks, 0 memories\n"
    assert err == ""
    assert run(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert tomllib.loads(shown)["models"]["vllm"]["max_context"] == 9
    (tmp_path / "same.toml").write_text(shown)
    assert run(["config", "show", "--config", str(tmp_path / "same.toml")]) == 0
    assert capsys.readouterr().out == shown


def test_openapi_is_the_document_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs that are made for the server need none that runs."""
    assert run(["config", "openapi"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["openapi"] == "3.1.0"
    assert "/v1/chat/completions" in shown["paths"]
