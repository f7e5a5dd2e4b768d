"""Vocabularies for tiny test models, built in code: byte-level BPE, SentencePiece and WordPiece.

Any text can be tokenized by the first two (every byte is a token), so tests need no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gguf

WORDS = ("the", "hello", "world", "user", "assistant", "system", "one", "two", "three", "and")
"""Words that are one token each, alone and with a space before them."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CHAT_MARKS = ("<|im_start|>", "<|im_end|>")

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = (
    int(gguf.TokenType.NORMAL),
    int(gguf.TokenType.UNKNOWN),
    int(gguf.TokenType.CONTROL),
    int(gguf.TokenType.BYTE),
)


@dataclass(frozen=True)
class TinyVocab:
    """`model` is the tokenizer's name in GGUF; bos, eos, unk are token ids (None = the file names none)."""

    model: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    bos: int | None
    eos: int
    unk: int | None = None
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    pre: str = "default"
    add_bos: bool = False

    def write(self, writer: Any) -> None:
        """Write the tokenizer's part of the metadata."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        if self.scores:
            writer.add_token_scores(list(self.scores))
        if self.merges:
            writer.add_token_merges(list(self.merges))
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        writer.add_eos_token_id(self.eos)
        if self.unk is not None:
            writer.add_unk_token_id(self.unk)
        writer.add_add_bos_token(self.add_bos)


def bpe(pre: str = "gpt-2") -> TinyVocab:
    """Return a byte-level BPE vocabulary: 256 bytes, the words, end of text and the chat marks."""
    tokens = list(_byte_letters())
    merges: list[str] = []
    for word in WORDS:
        _merge(word, tokens, merges)
        # The word is whole before the space joins it, as merges apply in the order of the list.
        tokens.append("\u0120" + word)
        merges.append(f"\u0120 {word}")
    normal = len(tokens)
    tokens += ["<|endoftext|>", *_CHAT_MARKS]
    types = [_NORMAL] * normal + [_CONTROL] * 3
    return TinyVocab("gpt2", tuple(tokens), tuple(types), normal, normal, merges=tuple(merges), pre=pre)


def sentencepiece() -> TinyVocab:
    """Return a SentencePiece vocabulary: 256 bytes, letters, the words, begin, end and the chat marks."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [_UNKNOWN, _CONTROL, _CONTROL] + [_BYTE] * 256
    scores = [0.0] * len(tokens)
    letters = [chr(code) for code in range(0x21, 0x7F)] + ["\u2581"]
    # Longer pieces must have higher scores than what they are made of, or they never come about.
    pieces = [*letters, *_growing(WORDS)]
    tokens += pieces
    types += [_NORMAL] * len(pieces)
    scores += [float(len(piece) - 20) for piece in pieces]
    tokens += _CHAT_MARKS
    types += [_CONTROL] * 2
    scores += [0.0] * 2
    return TinyVocab("llama", tuple(tokens), tuple(types), 1, 2, 0, scores=tuple(scores), add_bos=True)


def wordpiece() -> TinyVocab:
    """Return a WordPiece vocabulary: letters, alone and as continuations, the words, and BERT's marks."""
    letters = [chr(code) for code in range(0x21, 0x7F)]
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*marks, *("\u2581" + letter for letter in letters), *letters, *("\u2581" + w for w in WORDS)]
    types = [_CONTROL] * len(marks) + [_NORMAL] * (len(tokens) - len(marks))
    return TinyVocab("bert", tuple(tokens), tuple(types), 2, 3, 1, add_bos=True)


def _merge(word: str, tokens: list[str], merges: list[str]) -> None:
    """Add the merges that build a word from left to right, and the tokens on the way."""
    left = word[0]
    for letter in word[1:]:
        if left + letter not in tokens:
            tokens.append(left + letter)
            merges.append(f"{left} {letter}")
        left += letter


def _growing(words: tuple[str, ...]) -> list[str]:
    """Return every beginning of the words, with and without the mark of a space, of two letters and more."""
    marked = [start + word for word in words for start in ("", "\u2581")]
    return list(dict.fromkeys(word[:end] for word in marked for end in range(2, len(word) + 1)))


def _byte_letters() -> list[str]:
    """Return the letter that stands for each byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
