"""What `/pokt/config`, `/pokt/config-hash`, `/pokt/tokenizer` and `/pokt/tokenizer-hash` answer.

The bodies are made once: from a model directory, from a GGUF file, or from what an upstream tells.
Their form is that of the Python sidecar of the Pocket network, whose test bench reads them; its
rules are numbered at the functions that follow them. Knows nothing of HTTP.

1. A document is an object of objects, each named as the JSON file that it was, without `.json`.
2. The body is compact JSON with text as UTF-8; the hash is SHA-256 over Python's default JSON, keys
   sorted at every depth.
3. `model_max_length` is a decimal string: its usual value has 31 digits.
4. `_name_or_path` is "Unknown", and what tells where a tokenizer was loaded from is left out.
5. Only JSON travels, so a template in a file of its own goes into `tokenizer_config`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from arriero.errors import ConfigError, NotSupported, UnknownName
from arriero.guard.gguf import read_metadata
from arriero.guard.gguf_config import config_document
from arriero.guard.gguf_tokenizer import tokenizer_documents

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Json = dict[str, Any]

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bound on each file of a model directory and on each answer of an upstream."""
TRANSFORMERS_VERSION = "4.47.0"
"""What the hidden configuration says, unless told otherwise: the version that the Python sidecar pins."""
UPSTREAM_CONFIG = "/v1/models"
UPSTREAM_TOKENIZER = "/pokt/tokenizer"
"""What `from_upstream` makes use of."""
NAMES = ("config", "config-hash", "tokenizer", "tokenizer-hash")
"""What is served below `/pokt/`."""

_REQUIRED = ("tokenizer", "tokenizer_config")
_OPTIONAL = ("added_tokens", "special_tokens_map", "vocab")
_TEMPLATE = "chat_template.jinja"
_PLACES = ("name_or_path", "special_tokens_map_file", "tokenizer_file")
_HIDDEN = "Unknown"
_UPSTREAM_PROBLEMS = {
    "config": "max_context is not set, nor does the upstream tell it",
    "tokenizer": "tokenizer_path is not set, nor does the upstream publish it",
}


@dataclass(frozen=True)
class Document:
    """The bodies of one document and of its hash."""

    body: bytes
    hash_body: bytes

    @classmethod
    def of(cls, parts: Json) -> Document:
        """Write an object as rule 2 says. Raises ValueError for what is no JSON (NaN, lone surrogates)."""
        return cls(_json(parts), _json({"hash": canonical_hash(parts)}))


@dataclass(frozen=True)
class PoktDocuments:
    """What is served for one model. `problems` says why a document is missing, by its name."""

    config: Document | None
    tokenizer: Document | None
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_directory(cls, directory: Path, *, config: Document | None = None) -> PoktDocuments:
        """Read a model directory as Hugging Face lays it out.

        config: served in place of the directory's `config.json`, which tells what the model is.
        Raises ConfigError naming the file that is missing, broken or too large.
        """
        return cls(config or directory_config(directory), directory_tokenizer(directory))

    @classmethod
    def from_gguf(
        cls, path: Path, *, max_context: int | None = None, config: Document | None = None
    ) -> PoktDocuments:
        """Read the file of a local model; there is no tokenizer if its kind is not known here.

        max_context: the longest session that is served; None = what the model was trained for.
        Takes seconds for a large vocabulary. Raises ConfigError naming the file.
        """
        metadata = read_metadata(path)
        try:
            shape = config_document(metadata, max_position_embeddings=max_context)
            config = config or Document.of({"config": shape})
            parts = tokenizer_documents(metadata, max_length=shape["max_position_embeddings"])
            return cls(config, _tokenizer(parts))
        except NotSupported as exc:
            return cls(config, None, {"tokenizer": exc.message})
        except (ConfigError, ValueError) as exc:
            raise ConfigError(f"{path}: {exc}") from exc

    @classmethod
    def from_upstream(
        cls,
        answers: Mapping[str, bytes],
        *,
        upstream_model: str,
        public_name: str,
        max_context: int | None,
    ) -> PoktDocuments:
        """Make what can be had of a model without a directory, out of successful answers by path.

        The configuration is the hidden one, with max_context or else the upstream's own limit. The
        tokenizer is the upstream's, if that is a sidecar too: vLLM has no route for it.
        """
        offered = _context_of(_parsed_answer(answers.get(UPSTREAM_CONFIG)), upstream_model)
        context = max_context or offered
        config = hidden_config(public_name, context) if context else None
        tokenizer = _relayed_tokenizer(_parsed_answer(answers.get(UPSTREAM_TOKENIZER)))
        return cls(config, tokenizer, _UPSTREAM_PROBLEMS)

    def answer(self, name: str) -> bytes:
        """Return the body of `/pokt/NAME`. Raises UnknownName, with the reason, if there is none."""
        kind = name.removesuffix("-hash")
        document = {"config": self.config, "tokenizer": self.tokenizer}.get(kind)
        if document is None:
            problem = self.problems.get(kind)
            raise UnknownName("document", f"{name} ({problem})" if problem else name)
        return document.hash_body if name.endswith("-hash") else document.body


def canonical_hash(parts: object) -> str:
    """Return the hash of rule 2, in hex."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()


def hidden_config(
    public_name: str, max_context: int, *, transformers_version: str = TRANSFORMERS_VERSION
) -> Document:
    """Return a configuration that tells nothing of the model but its public name and its context."""
    return Document.of(
        {
            "config": {
                "max_position_embeddings": max_context,
                "model_name": public_name,
                "pokt_network_custom": True,
                "transformers_version": transformers_version,
            }
        }
    )


def directory_config(directory: Path) -> Document:
    """Return `config.json` of a directory as a document. Raises ConfigError naming the file."""
    return Document.of({"config": _without_paths(_read_json(directory / "config.json"))})


def directory_tokenizer(directory: Path) -> Document:
    """Return the tokenizer's files of a directory as one document. Raises ConfigError naming the file."""
    optional = [stem for stem in _OPTIONAL if (directory / f"{stem}.json").exists()]
    stems = sorted([*_REQUIRED, *optional])
    parts = {stem: _read_json(directory / f"{stem}.json") for stem in stems}
    template = directory / _TEMPLATE
    if template.exists():
        parts["tokenizer_config"]["chat_template"] = _read_text(template)
    try:
        return _tokenizer(parts)
    except ValueError as exc:
        raise ConfigError(f"{directory / 'tokenizer_config.json'}: {exc}") from exc


def _tokenizer(parts: Json) -> Document:
    """Apply rules 3 and 4. Raises ValueError naming the key that cannot be served."""
    config = {key: value for key, value in parts["tokenizer_config"].items() if key not in _PLACES}
    if "model_max_length" in config:
        config["model_max_length"] = _decimal(config["model_max_length"])
    return Document.of(dict(sorted((parts | {"tokenizer_config": config}).items())))


def _decimal(length: object) -> str:
    """Return a whole number as a decimal string; files hold it as a number, 1e+30 too, or as a string."""
    match length:
        case bool():
            pass
        case int():
            return str(length)
        case float() if length.is_integer():
            return str(int(length))
        case str() if length.isascii() and length.isdigit():
            return length
    raise ValueError(f"model_max_length must be a whole number, not {length!r:.80}")


def _without_paths(value: Any) -> Any:
    """Return the value with every `_name_or_path` hidden, also in the configurations within."""
    if not isinstance(value, dict):
        return value
    return {key: _HIDDEN if key == "_name_or_path" else _without_paths(item) for key, item in value.items()}


def _read_json(file: Path) -> Json:
    try:
        value = _parsed(_read_text(file))
        _json(value)  # finds what can be read but not written, such as half of a surrogate pair
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{file} is not the JSON that it should be: {exc}") from exc
    if not isinstance(value, dict):
        raise ConfigError(f"{file} must hold a JSON object, not {type(value).__name__}")
    return value


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES // 2**20} MiB")
        return data.decode("utf-8")
    except FileNotFoundError as exc:
        raise ConfigError(f"{file} is missing; /pokt/* is made of it") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file} is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc.strerror or exc}") from exc


def _parsed(text: str) -> Any:
    """Read JSON with Python's own reader, which keeps the 31 digits of rule 3; NaN is refused."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _parsed_answer(body: bytes | None) -> Any:
    """Return an upstream's JSON; None for anything that cannot be read."""
    if body is None or len(body) > MAX_FILE_BYTES:
        return None
    try:
        return _parsed(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _context_of(listing: Any, model: str) -> int | None:
    """Return vLLM's `max_model_len` of a model, out of a list of models."""
    entries = listing.get("data") if isinstance(listing, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("id") == model:
            length = entry.get("max_model_len")
            return length if type(length) is int and length > 0 else None
    return None


def _relayed_tokenizer(parts: Any) -> Document | None:
    if not isinstance(parts, dict) or not all(isinstance(parts.get(stem), dict) for stem in _REQUIRED):
        return None
    try:
        return _tokenizer({stem: parts[stem] for stem in (*_REQUIRED, *_OPTIONAL) if stem in parts})
    except (ValueError, RecursionError):
        return None


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")
