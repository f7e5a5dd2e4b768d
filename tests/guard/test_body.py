"""Bodies that are JSON by the letter, and all others."""

from __future__ import annotations

import asyncio

import pytest

from arriero.errors import InvalidRequest
from arriero.guard.body import LARGE_BYTES, MAX_DEPTH, read_aside, read_body


def nested(depth: int) -> bytes:
    """An object of this depth."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[1]",
        b'"x"',
        b"{",
        b'{"a":1}x',
        b'{"a":1}{"a":1}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":[-1e999]}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":+1}',
        b'{"a":0x1}',
        b'{"a":1_0}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800\\u0041"}',
        b'{"\\udc00":1}',
        b'{"a":"\n"}',
        b'{"a":"\\x41"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":1,"a":1}',
        b'{"a": 1, "a": 1}',
        b'{"a":1,"a": 11}',
        b'{"a":{"b":[{"c":"x","c":"x"}]}}',
        b'{"a": "x:", "b": {"c": 1, "c": 1}}',
        b'{"a\\\\":1,"x":1,"x":2}',
        b'{"a":[{"b":1,"b":1}]}',
        b'{"a":1}/**/',
        b'\xa0{"a":1}',
        b'{"a":1}\x00',
        nested(MAX_DEPTH + 1),
        nested(100_000),
        b'{"a":' * 500 + b"1" + b"}" * 500,
    ],
)
def test_body_that_is_not_strict_json_is_refused(data: bytes) -> None:
    """What two parsers could read differently, or one not at all, is the caller's fault."""
    with pytest.raises(InvalidRequest):
        read_body(data, max_bytes=1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"a":-0.0,"b":1E+2,"c":"\\u00e9\\/","d":[ 1,  2 ]}',
        b'{"a":{"b": [1, 2.50], "c": "x : y"},"d":0.70}',
        b'{"a":{"b":[1,2.5],"c":"\\"x\\":"},"d":123456789012345678901234567890}',
        '{"ä":"\U0001f600"}'.encode(),
        b'{"a":"\\ud83d\\ude00"}',
        nested(MAX_DEPTH),
        b'{"a":[' + b"[]," * 500 + b"[]]}",
    ],
)
def test_strict_body_is_written_as_it_was_spelt(data: bytes) -> None:
    """Members keep order and bytes."""
    assert read_body(data, max_bytes=1 << 20).encoded() == data


def test_members_change_in_their_place() -> None:
    """A member that is set stays where it was, a new one comes last, a dropped one is gone."""
    body = read_body(b'{"a":1.0,"b":2,"c":3}', max_bytes=99)

    body.put("b", "x")
    body.put("d", None)
    body.drop("c")

    assert body.encoded() == b'{"a":1.0,"b":"x","d":null}'


def test_names_are_written_plainly() -> None:
    """A name in escapes is the name that it means."""
    assert read_body(b'{"\\u006dodel":1}', max_bytes=99).encoded() == b'{"model":1}'


@pytest.mark.parametrize("size", [LARGE_BYTES // 2, LARGE_BYTES])
async def test_others_have_their_turn_while_a_large_body_is_read(size: int) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    job = asyncio.ensure_future(other())
    data = b'{"a":"%b"}' % (b"x" * (size - 8))
    body = await read_aside(data, max_bytes=size)
    job.cancel()

    assert body.encoded() == data
    assert (turns > 0) == (size >= LARGE_BYTES)
