"""The tokenizer in a GGUF file, as the JSON documents of Hugging Face.

The documents describe what llama.cpp does with the file, so `tokenizers` and the engine give the same
tokens. Three kinds of vocabulary are known: byte-level BPE, SentencePiece BPE and WordPiece. For any
other, and for a byte-level one that splits text by rules not listed here, NotSupported is raised
instead of a document that would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from arriero.errors import ConfigError, NotSupported

if TYPE_CHECKING:
    from arriero.guard.gguf import Metadata

Json = dict[str, Any]

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPACE = "\u2581"
"""Stands for a space in SentencePiece, and for the beginning of a word in WordPiece vocabularies."""

_ROLES = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",
    "mask_token": "mask",
}
"""Hugging Face's name to GGUF's, which misspells one of them."""

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_LLAMA = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_BY_WORDS = ("gpt-2", "phi-2", "mpt", "olmo", "jais")
_BY_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")
_LIKE_QWEN = ("qwen2", "stablelm2", "deepseek-r1-qwen")
_LIKE_LLAMA = ("llama-bpe", "llama3", "llama-v3", "falcon3")
_SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_BY_WORDS, (_WORDS,)),
    **dict.fromkeys(_BY_DIGITS, (r"\p{N}", _WORDS)),
    **dict.fromkeys(_LIKE_QWEN, (_QWEN,)),
    **dict.fromkeys(_LIKE_LLAMA, (_LLAMA,)),
}
"""By `tokenizer.ggml.pre`: the expressions that cut text into words, one after another."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a file by id, their kinds, and the ids with a role by Hugging Face's name of it."""

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    roles: dict[str, int]

    @classmethod
    def of(cls, metadata: Metadata) -> Vocabulary:
        """Read the vocabulary. Raises ConfigError when it is missing or its parts do not fit together."""
        tokens = metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
            raise ConfigError("the file holds no vocabulary (tokenizer.ggml.tokens)")
        types = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
        if not isinstance(types, list) or len(types) != len(tokens):
            raise ConfigError("tokenizer.ggml.token_type does not have one element for each token")
        roles = {role: metadata.get(f"tokenizer.ggml.{name}_token_id") for role, name in _ROLES.items()}
        return cls(
            model=str(metadata.get("tokenizer.ggml.model", "")),
            pre=str(metadata.get("tokenizer.ggml.pre", "")),
            tokens=[str(token) for token in tokens],
            types=[int(kind) for kind in types],
            roles={r: t for r, t in roles.items() if isinstance(t, int) and 0 <= t < len(tokens)},
        )

    @property
    def names(self) -> dict[str, str]:
        """The texts of the tokens with a role."""
        return {role: self.tokens[token] for role, token in self.roles.items()}


def tokenizer_documents(metadata: Metadata, *, max_length: int) -> dict[str, Json]:
    """Return the documents by the stem of the file that each would be.

    max_length: the longest prompt and completion, in tokens.
    Raises NotSupported for a tokenizer that is not known here, ConfigError for damaged metadata.
    """
    vocabulary = Vocabulary.of(metadata)
    match vocabulary.model:
        case "gpt2":
            tokenizer = _byte_level(vocabulary, metadata)
        case "llama":
            tokenizer = _sentencepiece(vocabulary, metadata)
        case "bert":
            tokenizer = _wordpiece(vocabulary)
        case model:
            raise NotSupported(f"the tokenizer {model!r} of this GGUF file has no published JSON form here")
    config: Json = {"clean_up_tokenization_spaces": False, "model_max_length": str(max_length)}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"} | vocabulary.names
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return {"tokenizer": tokenizer, "tokenizer_config": config, "special_tokens_map": vocabulary.names}


def _byte_level(vocabulary: Vocabulary, metadata: Metadata) -> Json:
    if vocabulary.pre not in _SPLITS:
        raise NotSupported(f"the way {vocabulary.pre!r} of cutting text into words is not known here")
    merges = metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise ConfigError("the file holds no merges (tokenizer.ggml.merges)")
    # In Llama 3 a word that is a token is taken as such, whatever the merges say; it also begins with one.
    is_llama = vocabulary.pre in _LIKE_LLAMA
    splits = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
        for split in _SPLITS[vocabulary.pre]
    ]
    bytes_to_letters = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    letters = {"type": "ByteLevel"} | bytes_to_letters
    return _document(
        vocabulary,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*splits, letters]},
        post_processor=_frame(vocabulary, metadata, add_bos=is_llama),
        decoder=letters,
        model=_bpe(vocabulary, merges) | {"ignore_merges": is_llama},
    )


def _sentencepiece(vocabulary: Vocabulary, metadata: Metadata) -> Json:
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(vocabulary.tokens):
        raise ConfigError("tokenizer.ggml.scores does not have one element for each token")
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    spaces: Json = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    marks: Json = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = vocabulary.names.get("unk_token")
    return _document(
        vocabulary,
        normalizer={"type": "Sequence", "normalizers": [*prepend, spaces]},
        post_processor=_frame(vocabulary, metadata, add_bos=True),
        decoder={
            "type": "Sequence",
            "decoders": [marks, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        model=_bpe(vocabulary, _merges_by_score(vocabulary.tokens, scores))
        | {"unk_token": unknown, "byte_fallback": True, "fuse_unk": True},
    )


def _wordpiece(vocabulary: Vocabulary) -> Json:
    """Undo GGUF's form, where words begin with a mark and their continuations have none."""
    names = vocabulary.names
    special = frozenset(names.values())

    def wordpiece(token: str) -> str:
        if token in special:
            return token
        return token[1:] if token.startswith(_SPACE) else f"##{token}"

    begin, end = names.get("bos_token", "[CLS]"), names.get("sep_token", "[SEP]")
    vocabulary = replace(vocabulary, tokens=[wordpiece(token) for token in vocabulary.tokens])
    ids = _ids(vocabulary.tokens)
    if begin not in ids or end not in ids:
        raise ConfigError(f"the vocabulary lacks {begin} or {end}, which stand around each text")
    return _document(
        vocabulary,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_template([begin], [end], {name: ids[name] for name in (begin, end)}),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model={
            "type": "WordPiece",
            "unk_token": names.get("unk_token", "[UNK]"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    )


def _document(
    vocabulary: Vocabulary,
    *,
    post_processor: Json | None,
    decoder: Json,
    model: Json,
    normalizer: Json | None = None,
    pre_tokenizer: Json | None = None,
) -> Json:
    """Return the document with its members in the order in which `tokenizers` writes them."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def _added_tokens(vocabulary: Vocabulary) -> list[Json]:
    """Return the tokens that are found in the text before anything else is done with it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": token, "content": vocabulary.tokens[token]} | flags | {"special": kind != _USER_DEFINED}
        for token, kind in enumerate(vocabulary.types)
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]


def _bpe(vocabulary: Vocabulary, merges: list[Any]) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": _ids(vocabulary.tokens),
        "merges": merges,
    }


def _ids(tokens: list[str]) -> dict[str, int]:
    """Return ids by text; of equal texts the first counts."""
    return {text: token for token, text in reversed(list(enumerate(tokens)))}


def _merges_by_score(tokens: list[str], scores: list[Any]) -> list[list[str]]:
    """Return the merges that are implied: each piece out of any two, pieces of high score first."""
    ids = _ids(tokens)
    order = sorted(ids.items(), key=lambda item: (-scores[item[1]], item[1]))
    return [
        [piece[:cut], piece[cut:]]
        for piece, _ in order
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]


def _frame(vocabulary: Vocabulary, metadata: Metadata, *, add_bos: bool) -> Json | None:
    """Return what puts begin and end tokens around a text; None if there are none.

    add_bos: what holds for this kind of vocabulary when the file does not say.
    """
    roles, names = vocabulary.roles, vocabulary.names
    bos = metadata.get("tokenizer.ggml.add_bos_token", add_bos) and "bos_token" in roles
    eos = metadata.get("tokenizer.ggml.add_eos_token", False) and "eos_token" in roles
    if not bos and not eos:
        return None
    before = [names["bos_token"]] if bos else []
    after = [names["eos_token"]] if eos else []
    return _template(before, after, {name: vocabulary.tokens.index(name) for name in before + after})


def _template(before: list[str], after: list[str], ids: dict[str, int]) -> Json:
    def special(name: str, part: int) -> Json:
        return {"SpecialToken": {"id": name, "type_id": part}}

    first: list[Json] = [{"Sequence": {"id": "A", "type_id": 0}}]
    second: list[Json] = [{"Sequence": {"id": "B", "type_id": 1}}]
    start = [special(name, 0) for name in before]
    single = start + first + [special(name, 0) for name in after]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single + second + [special(name, 1) for name in after],
        "special_tokens": {
            name: {"id": name, "ids": [token], "tokens": [name]} for name, token in sorted(ids.items())
        },
    }
