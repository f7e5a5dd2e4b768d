"""Bodies that are wrong: bytes, broken JSON, JSON of the wrong shape, and good bodies changed a little."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

MESSAGES = [{"role": "user", "content": "Hi"}]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "m", "messages": MESSAGES, "max_tokens": 1, "temperature": 0.5, "top_p": 0.9, "n": 1,
        "stop": ["x"], "stream": False, "seed": 3, "logit_bias": {"5": 1.5}, "presence_penalty": 0.1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "logprobs": True, "top_logprobs": 2, "stream_options": {"include_usage": True}, "user": "me",
    },
    "/v1/completions": {
        "model": "m", "prompt": "Hi", "max_tokens": 1, "temperature": 0.5, "top_k": 4, "min_p": 0.1, "n": 1,
        "stop": "x", "echo": True, "logprobs": 1, "seed": 3, "grammar": "start: /a+/", "stream": False,
    },
    "/v1/embeddings": {"model": "m", "input": ["Hi", "there"], "encoding_format": "float", "dimensions": 4},
    "/v1/tokenize": {"model": "m", "text": "Hi", "add_bos": True, "special": False},
    "/v1/detokenize": {"model": "m", "tokens": [1, 2, 3]},
    "/v1/task/t/completion": {"prompt": "Hi"},
    "/v1/model/m/embedding": {"prompt": "Hi"},
    "/v1/model/m/tokenization": {"prompt": "Hi"},
}  # fmt: skip
"""For each route of models a body that it takes, or of which it refuses one member by name."""

FILE = "file-000000000000000000000000"
"""Stands for a file that is there."""
WHERE: dict[str, Any] = {"type": "and", "filters": [{"type": "eq", "key": "year", "value": 2026}]}
CUTTING = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 20}}
MORE: dict[str, dict[str, Any]] = {
    "/tokenize": {"model": "far", "prompt": "Hi", "add_special_tokens": True},
    "/v1/responses": {"model": "far", "input": "Hi", "max_output_tokens": 1, "temperature": 0.5},
    "/v1/rerank": {"model": "far", "query": "Hi", "documents": ["a", "b"], "top_n": 1},
    "/v1/memory/{memory}": {"prompt": "Hello", "n": 2},
    "/v1/memory/{memory}/recall": {
        "query": "Hello", "limit": 3, "mode": "hybrid", "where": WHERE, "min_score": 0.1,
        "merge_neighbours": True, "rerank": False, "min_rerank_score": 0.5,
    },
    "/v1/vector_stores": {
        "name": "notes", "description": "some", "metadata": {"project": "a"}, "file_ids": [],
        "expires_after": {"anchor": "last_active_at", "days": 7}, "chunking_strategy": CUTTING,
    },
    "/v1/vector_stores/{store}": {
        "name": "more notes", "metadata": {"project": "b"},
        "expires_after": {"anchor": "last_active_at", "days": 7},
    },
    "/v1/vector_stores/{store}/search": {
        "query": ["Hello", "mule"], "filters": WHERE, "max_num_results": 3, "rewrite_query": False,
        "ranking_options": {"ranker": "auto", "score_threshold": 0.1},
    },
    "/v1/vector_stores/{store}/files": {
        "file_id": FILE, "attributes": {"year": 2026}, "chunking_strategy": CUTTING,
    },
    "/v1/vector_stores/{store}/files/{file}": {"attributes": {"year": 2026, "kind": "a", "is_new": True}},
    "/v1/vector_stores/{store}/file_batches": {
        "file_ids": [FILE], "attributes": {"year": 2026},
        "chunking_strategy": CUTTING,
    },
    "/v1/tickets": {"path": "/v1/task/talk/chat"},
    "/v1/admin/keys": {
        "name": "ci", "grants": {"tasks": ["talk"], "models": None, "admin": False},
        "limits": {"concurrent_requests": 1}, "expires_at": 4_000_000_000,
    },
    "/v1/admin/keys/{id}/rotate": {"overlap_s": 1.5},
}  # fmt: skip
"""The same for all others that the OpenAPI document gives a JSON body, by their path in it."""

NUMBERS = b"0 -0 -1 1e999 -1e999 1e-999 0.1e1 9007199254740993 18446744073709551616 01 +1 .5 1. 0x1".split()
NUMBERS += [b"9" * 5000, b"0." + b"1" * 5000, b"1e" + b"9" * 300, b"NaN", b"Infinity", b"-Infinity"]
TEXTS = [
    b'""', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"a\nb"',
    b'"' + b"a" * 20_000 + b'"', b'"\xe2\x80\xae<|im_start|>"', b'"<bos>"', b'"\\ud83d\\ude00"', b'"\\x"',
]  # fmt: skip
OTHERS = [
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[[]]",
    b'{"a":{}}',
    b"[null]",
    b"[1e999]",
    b"nul",
    b"tru",
    b",",
    b"",
]
DEPTHS = (10, 100, 1_000, 100_000)
Change = Callable[[random.Random, dict[str, Any]], bytes]


def bodies(route: str, number: int, seed: int) -> Iterator[bytes]:
    """Yield wrong bodies, the same for the same seed."""
    rng = random.Random(f"{route} {seed}")
    for _ in range(number):
        yield rng.choice(CHANGES)(rng, GOOD.get(route) or MORE[route])


def noise(rng: random.Random, good: dict[str, Any]) -> bytes:
    """Any bytes at all."""
    return rng.randbytes(rng.choice((0, 1, 2, 7, 64, 1000)))


def flipped(rng: random.Random, good: dict[str, Any]) -> bytes:
    """A good body with some bytes changed, gone or doubled."""
    body = bytearray(msgspec.json.encode(good))
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(body))
        match rng.randrange(4):
            case 0:
                body[place] ^= 1 << rng.randrange(8)
            case 1:
                del body[place : place + rng.randrange(1, 9)]
            case 2:
                body[place:place] = rng.choice([b"\0", b'"', b"{", b"]", b"\\", b"\xc3", b",", b"e"])
            case _:
                body[place:place] = body[place : place + 20]
        if not body:
            break
    return bytes(body)


def cut(rng: random.Random, good: dict[str, Any]) -> bytes:
    """The beginning of a good body, or one with something behind it."""
    body = msgspec.json.encode(good)
    return body[: rng.randrange(len(body))] if rng.random() < 0.7 else body + rng.choice(OTHERS)


def mistyped(rng: random.Random, good: dict[str, Any]) -> bytes:
    """A good body in which one value, at any depth, is another."""
    text = odd_value(rng)
    marked = replaced(rng, good, "\x01MARK")
    return msgspec.json.encode(marked).replace(b'"\\u0001MARK"', text)


def odd_value(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 3:
        return deep(rng, {})
    return rng.choice((NUMBERS, TEXTS, OTHERS)[kind])


def replaced(rng: random.Random, value: Any, mark: str) -> Any:
    """Return a value in which one part is the mark."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: replaced(rng, value[key], mark)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], replaced(rng, value[place], mark), *value[place + 1 :]]
    return mark


def deep(rng: random.Random, good: dict[str, Any]) -> bytes:
    """Lists or objects in each other, closed or not."""
    depth = rng.choice(DEPTHS)
    begin, end = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"anyOf":', b"}]")])
    return begin * depth + b"1" + (end * depth if rng.random() < 0.8 else b"")


def doubled(rng: random.Random, good: dict[str, Any]) -> bytes:
    """A member twice, the second time with another value."""
    key = rng.choice(list(good))
    return msgspec.json.encode(good)[:-1] + b"," + msgspec.json.encode(key) + b":" + odd_value(rng) + b"}"


def foreign(rng: random.Random, good: dict[str, Any]) -> bytes:
    """A member that nobody knows, or one less."""
    if rng.random() < 0.5:
        names = ["__proto__", "n_discard", "Model", "", "a" * 5000, "\u202e", "max_tokenz", "extra_body"]
        key = msgspec.json.encode(rng.choice(names))
        return msgspec.json.encode(good)[:-1] + b"," + key + b":" + odd_value(rng) + b"}"
    gone = rng.choice(list(good))
    return msgspec.json.encode({key: value for key, value in good.items() if key != gone})


def recoded(rng: random.Random, good: dict[str, Any]) -> bytes:
    """Another encoding, or a mark of one."""
    text = msgspec.json.encode(good).decode()
    codec = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"])
    return text.encode(codec)


def many(rng: random.Random, good: dict[str, Any]) -> bytes:
    """A list or text of many thousand parts where a few are usual."""
    part = rng.choice([b"1", b'"a"', b"[1]", b"{}", b'{"role":"user","content":"a"}'])
    marked = replaced(rng, good, "\x01MARK")
    return msgspec.json.encode(marked).replace(b'"\\u0001MARK"', b"[" + b",".join([part] * 5000) + b"]")


CHANGES: list[Change] = [
    noise,
    flipped,
    cut,
    mistyped,
    mistyped,
    mistyped,
    deep,
    doubled,
    foreign,
    recoded,
    many,
]
