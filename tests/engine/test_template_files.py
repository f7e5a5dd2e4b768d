"""Chat templates out of the files of a published tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from arriero.engine.template_files import directory_template
from arriero.errors import ConfigError

SAYS = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
HELLO = [{"role": "user", "content": "hello"}]


def rendered(directory: Path) -> str:
    """Return what the template of a directory makes of a message."""
    template = directory_template(directory)
    assert template is not None
    return "".join(span.text for span in template.render(HELLO))


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": SAYS, "bos_token": "<s>"},
        {"chat_template": SAYS, "bos_token": {"content": "<s>", "special": True}, "eos_token": None},
        {"chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": SAYS}]}
        | {"bos_token": "<s>"},
    ],
)
def test_in_the_configuration(tmp_path: Path, config: dict[str, Any]) -> None:
    """The template is a member of the configuration, alone or as the default of several."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

    assert rendered(tmp_path) == "<s>[user]hello"


def test_file_of_its_own(tmp_path: Path) -> None:
    """A file of its own stands before the configuration."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x", "bos_token": "<s>"}))
    (tmp_path / "chat_template.jinja").write_text(SAYS)

    assert rendered(tmp_path) == "<s>[user]hello"


@pytest.mark.parametrize("config", [None, {}, {"chat_template": None}, {"chat_template": "{% broken"}])
def test_none(tmp_path: Path, config: dict[str, Any] | None) -> None:
    """A directory without a template, or with one that cannot be used, has none."""
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

    assert directory_template(tmp_path) is None


@pytest.mark.parametrize("text", ["{", '{"chat_template": 7}', "[]"])
def test_bad_configuration(tmp_path: Path, text: str) -> None:
    """A configuration that cannot be read is the operator's to repair."""
    (tmp_path / "tokenizer_config.json").write_text(text)

    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        directory_template(tmp_path)
