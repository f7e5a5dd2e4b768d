"""What a task asks that its model cannot do is a fault with its key, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import load_config, parse_config
from arriero.errors import ConfigError
from arriero.tasks.checks import faults, task_constraints

REMOTE = """
[models.m]
{model}
[models.m.upstream]
urls = ["http://127.0.0.1:1"]
model = "x"
{upstream}
[tasks.t]
model = "m"
{task}
"""
LOCAL = '[models.m]\nurl = "http://h.example/m.gguf"\n[tasks.t]\nmodel = "m"\n'


def remote(task: str, model: str = "max_tokens = 8", upstream: str = "") -> str:
    return REMOTE.format(model=model, upstream=upstream, task=task)


def told(text: str) -> list[str]:
    return [f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in faults(parse_config(text, {}))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (remote("top_k = 5"), "tasks.t.top_k: top_k is no parameter of OpenAI's protocol"),
        (remote("repeat_penalty = 1.1"), "tasks.t.repeat_penalty: "),
        (remote("samplers = ['minp:p=0.1']"), "tasks.t.samplers: min_p is no parameter"),
        (
            remote("samplers = ['mirostat2']", upstream="dialect = 'vllm'"),
            "tasks.t.samplers: no upstream has",
        ),
        (
            remote("repeat_penalty = 1.1\nrepetition_penalty_last_n = 8", upstream="dialect = 'vllm'"),
            "tasks.t.repetition_penalty_last_n: ",
        ),
        (remote("biaser.choice = ['a']"), "tasks.t.biaser: the upstream's dialect does not say"),
        (
            remote("biaser.regex = 'a+'", upstream="dialect = 'openai'"),
            "tasks.t.biaser: OpenAI's protocol knows",
        ),
        (
            remote("form = 'chat'", "routes = ['/v1/completions']"),
            "tasks.t.form: chat: the model does not serve",
        ),
        (remote("", "routes = ['/v1/chat/completions']\nmax_tokens = 8"), "tasks.t.form: completion: "),
        (remote("max_tokens = 0"), "tasks.t.max_tokens: an upstream answers with one token at least"),
        (remote("", ""), "tasks.t.max_tokens: give a limit here or to the model: without one"),
        (remote("", "max_context = 8\nover_limit = 'reject'"), "tasks.t.max_tokens: give a limit here"),
        (LOCAL + "form = 'chat'", "tasks.t.form: for models with an upstream only"),
        (LOCAL + "biaser.regex = '('", "tasks.t.biaser.regex: "),
    ],
)
def test_a_fault_names_its_key(text: str, expected: str) -> None:
    """One fault for each, and the same words when the server starts."""
    (fault,) = told(text)

    assert fault.startswith(expected)
    with pytest.raises(ConfigError) as caught:
        task_constraints(parse_config(text, {}))
    assert caught.value.message == fault


@pytest.mark.parametrize(
    "text",
    [
        remote(""),
        remote("", "max_context = 8"),
        remote("max_tokens = 8", ""),
        remote("form = 'chat'", ""),
        remote("temperature = 0\ntop_p = 0.5\nfrequency_penalty = 0.1\nseed = 1\nstop_sequences = ['a']"),
        remote("top_k = 0\nrepeat_penalty = 1.0"),
        remote("top_k = 5\nmin_p = 0.1\nrepeat_penalty = 1.1", upstream="dialect = 'vllm'"),
        remote("samplers = ['temperature:0.3 topp:p=0.5']"),
        remote("biaser.json_schema = { type = 'boolean' }", upstream="dialect = 'openai'"),
        remote("biaser.choice = ['a']", upstream="dialect = 'vllm'"),
        LOCAL + "samplers = ['mirostat2']\nmax_tokens = 0",
    ],
)
def test_what_can_be_done_is_no_fault(text: str) -> None:
    """Defaults of sampling hold for models that run here; they are not sent elsewhere, and no fault there."""
    assert told(text) == []


def test_constraints_come_with_the_checks() -> None:
    """Each task with a biaser has its constraint."""
    made = task_constraints(parse_config(remote("biaser.regex = 'a+'", upstream="dialect = 'vllm'"), {}))

    assert [(name, made[name].source) for name in made] == [("t", "a+")]


def test_faults_are_told_with_their_lines(tmp_path: Path) -> None:
    """`config check` names file and line of the key."""
    (tmp_path / "c.toml").write_text("[auth]\npublic = true\n" + remote("top_k = 5"))

    with pytest.raises(ConfigError, match=r"c\.toml:12: tasks\.t\.top_k: "):
        load_config(tmp_path / "c.toml", {}, faults)
