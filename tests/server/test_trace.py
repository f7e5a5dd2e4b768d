"""The header `traceparent`, read and written."""

from __future__ import annotations

import pytest

from arriero.server.trace import Parent, Trace, parent_of, trace_of, traceparent

TRACE, SPAN = b"a" * 32, b"b" * 16
PARENT = Parent(b"\xaa" * 16, b"\xbb" * 8, is_sampled=True)


def bits(count: int) -> int:
    return 2**count - 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"00-" + TRACE + b"-" + SPAN + b"-01", PARENT),
        (b"00-" + TRACE + b"-" + SPAN + b"-00", PARENT._replace(is_sampled=False)),
        (b"00-" + TRACE + b"-" + SPAN + b"-03", PARENT),
        (b"01-" + TRACE + b"-" + SPAN + b"-01-later", PARENT),
        (b"00-" + TRACE + b"-" + SPAN + b"-01-later", None),
        (b"ff-" + TRACE + b"-" + SPAN + b"-01", None),
        (b"00-" + b"0" * 32 + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", None),
        (b"00-" + TRACE.upper() + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + SPAN, None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_a_header_names_a_parent_or_means_nothing(value: bytes, expected: Parent | None) -> None:
    """As the W3C has it: unknown versions are read like the first, zeros and capitals are not valid."""
    assert parent_of([(b"accept", b"*/*"), (b"traceparent", value)]) == expected


def test_two_headers_name_no_parent() -> None:
    """Nobody could say which one is meant; without one there is none either."""
    header = (b"traceparent", b"00-" + TRACE + b"-" + SPAN + b"-01")
    assert parent_of([header, header]) is None
    assert parent_of([]) is None
    assert [traceparent([header]), traceparent([header, header])] == [header[1].decode(), ""]


@pytest.mark.parametrize("is_chosen", [True, False])
def test_a_caller_decides_whether_its_trace_is_recorded(is_chosen: bool) -> None:
    """The sample ratio is asked for requests without a trace only."""
    child = Trace(PARENT.trace_id, b"\xff" * 8, PARENT.span_id)
    root = Trace(b"\xff" * 16, b"\xff" * 8)

    assert trace_of(PARENT, is_chosen=lambda: is_chosen, bits=bits) == child
    assert trace_of(PARENT._replace(is_sampled=False), is_chosen=lambda: is_chosen, bits=bits) is None
    assert trace_of(None, is_chosen=lambda: is_chosen, bits=bits) == (root if is_chosen else None)
    assert child.header == b"00-" + TRACE + b"-" + b"f" * 16 + b"-01"


def test_names_are_never_zero() -> None:
    """Zeros would mean that there is no trace."""
    trace = trace_of(None, is_chosen=lambda: True, bits=lambda count: 0)

    assert trace is not None
    assert any(trace.trace_id)
    assert any(trace.span_id)
