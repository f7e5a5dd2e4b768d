"""The chat template of a published tokenizer: a file of its own, or a member of its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from arriero.engine.template import ChatTemplate
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
MAX_FILE_BYTES = 64 << 20


class _TokenizerConfig(msgspec.Struct):
    chat_template: str | list[dict[str, Any]] | None = None
    bos_token: str | dict[str, Any] | None = None
    eos_token: str | dict[str, Any] | None = None


def directory_template(directory: Path) -> ChatTemplate | None:
    """Return the template; None if there is none that can be used. Raises ConfigError naming the file.

    Names of special tokens in a caller's text become those tokens, as in the servers that are counted for.
    """
    config = _config(directory / CONFIG)
    source = _text(directory / TEMPLATE) or _template(config.chat_template)
    if source is None:
        return None
    template = ChatTemplate(source, _token(config.bos_token), _token(config.eos_token), ())
    return template if template.problem is None else None


def _config(file: Path) -> _TokenizerConfig:
    text = _text(file)
    if text is None:
        return _TokenizerConfig()
    try:
        return msgspec.json.decode(text, type=_TokenizerConfig)
    except msgspec.DecodeError as exc:
        raise ConfigError(f"{file} is no tokenizer configuration: {exc}") from exc


def _text(file: Path) -> str | None:
    """Return the text of a file, None if it is not there."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} cannot be read: {exc}") from exc


def _template(written: str | list[dict[str, Any]] | None) -> str | None:
    if not isinstance(written, list):
        return written
    # Several templates by name: servers take the one called default.
    named = {one.get("name"): one.get("template") for one in written}
    default = named.get("default")
    return default if isinstance(default, str) else None


def _token(written: str | dict[str, Any] | None) -> str:
    content = written.get("content") if isinstance(written, dict) else written
    return content if isinstance(content, str) else ""
