"""The command as a user sees it: verbs, messages, exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import click
import pytest

from arriero.cli.main import VERBS, Verbs, run, tell
from arriero.errors import ConfigError, EngineError, InvalidRequest, Unauthorized, Unavailable
from arriero.version import __version__


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_file_and_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb is the click command of its module, and explains itself."""
    command = import_module(f"arriero.cli.{verb}").command

    assert command.name == verb
    assert run([verb, "--help"]) == 0
    assert f"arriero {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["config", "memory", "keys", "engine"])
def test_the_help_of_a_group_shows_whole_sentences(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first sentence of each of its verbs fits in a line."""
    assert run([verb, "--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


LIGHT = """
import sys
from arriero.cli.main import run
assert run(["--help"]) == 0 and run(["version"]) == 0
print(*sorted({"numpy", "httpx2", "starlette", "msgspec", "rich"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_lists_the_verbs_without_loading_them() -> None:
    """`--help` and `version` are quick: they import none of the heavy packages."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)

    assert (done.stderr.strip(), done.returncode) == ("", 0)
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (ConfigError("bad key"), 2, "arriero: bad key\n"),
        (Unavailable("gone"), 1, "arriero: gone\n"),
        (EngineError("died"), 1, "arriero: died\n"),
        (InvalidRequest("no"), 1, "arriero: no\n"),
        (
            Unauthorized("no key"),
            1,
            "arriero: no key (keys are given as ARRIERO_API_KEY, or with --api-key)\n",
        ),
        (OSError("odd"), 1, "arriero: odd\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "arriero: /x: Permission denied\n"),
        (ValueError("x"), 1, "arriero: internal error: ValueError: x (arriero --traceback shows where)\n"),
        (click.Abort(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_a_failure_is_one_message_and_a_status(
    failure: Exception, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 says that the configuration or the usage is wrong, 1 that the work failed; no traceback."""
    assert tell(failure) == status
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("arguments", [["frobnicate"], ["serve", "--port", "99999"], ["pull"], []])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors go to stderr with the status of a wrong configuration."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: arriero" in err


def test_a_verb_that_is_nearly_one_is_hinted_at(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the keyboard gets the verb that was probably meant."""
    assert run(["chta"]) == 2
    assert 'no verb "chta"; did you mean "chat"?' in capsys.readouterr().err


def test_the_traceback_flag_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--traceback` the error itself comes out, for whoever repairs it."""
    with pytest.raises(ConfigError):
        run(["--traceback", "serve", "--config", "/does/not/exist.toml"])


def test_the_module_is_the_command() -> None:
    """`python -m arriero` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "arriero", "version"], capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.returncode) == (f"arriero {__version__}\n", 0)


def test_an_unknown_verb_is_not_looked_for() -> None:
    """Only listed verbs are imported, whatever modules the package holds."""
    group = Verbs("x")

    assert group.get_command(click.Context(group), "main") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the file that is always full is Linux's")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["version"], 0), (["nope"], 2), (["config", "check", "--config", "/no/file"], 2)],
)
def test_a_full_stderr_changes_no_status(arguments: list[str], status: int) -> None:
    """What cannot be said is lost; Python's own buffer of it does not end the process with 120."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "arriero", *arguments]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, env=environment, timeout=60)

    assert done.returncode == status
