"""The head of a request: from bytes to a value, or the reason why it is refused. Pure.

llhttp reads it, with all leniency off; the checks here are those that it does not make. What two
parties could understand in two ways is refused: RFC 9112, and the smuggling cases of the field. A head
without anything unusual is read by one pattern, which takes a strict part of what llhttp takes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httptools
import msgspec

from arriero.server.edge.refusal import (
    bad_request,
    expectation_failed,
    headers_too_large,
    misdirected,
    target_too_long,
)

if TYPE_CHECKING:
    from arriero.server.edge.limits import Limits

END = b"\r\n\r\n"
HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
CONTROL = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])")
"""A control character in a path, as an escape; it would reach names, logs and messages."""
MAX_LENGTH_DIGITS = 18

ONCE = (b"host", b"content-length", b"transfer-encoding")
"""Headers of which a second one makes a request ambiguous."""
UNUSUAL = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
MAX_USUAL_DIGITS = 12
# Groups are not possessive: Python before 3.11.5 takes too much by those.
# Values without blanks around them, and nothing in a target that any parser is particular about; an
# escape in a path may be a control character.
USUAL = re.compile(
    rb"(POST|GET) (/[A-Za-z0-9/_.~:,@-]*+(?:\?[A-Za-z0-9/_.~%?&=+:,@-]*+)?) HTTP/1\.1\r\n"
    rb"(?:[A-Za-z0-9-]++: ?[!-~]++(?: ++[!-~]++)*\r\n)+\r\n"
)
LINE = re.compile(rb"([A-Za-z0-9-]++): ?([!-~][ -~]*+)\r\n")
LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,12})\r\n")
MAX_FORMS = 256
MAX_FORM_BYTES = 2048
UNDERSTOOD = frozenset({*ONCE, b"connection", b"upgrade", b"expect"})


class Head(msgspec.Struct, eq=False):
    """A request up to its body; framing and hop-by-hop headers understood."""

    method: bytes
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    is_http11: bool
    content_length: int = 0
    is_chunked: bool = False
    expects_continue: bool = False
    keeps_alive: bool = True
    is_upgrade: bool = False
    form: bytes | None = None
    """All of the head but the length of the body, where that may come again."""
    length_at: int = 0
    """Which header of such a head tells the length."""

    def with_length(self, digits: bytes) -> Head:
        """Return the same head before a body of another length."""
        headers = self.headers.copy()
        headers[self.length_at] = (b"content-length", digits)
        return msgspec.structs.replace(self, headers=headers, content_length=int(digits))

    @property
    def has_body(self) -> bool:
        """Whether bytes follow that belong to the request."""
        return self.is_chunked or self.content_length > 0


class Heads:
    """Reads heads. Owns those that came before: those of one client differ in the length of the body only.

    What is kept was read in full once, with other digits in the one place where they stand.
    """

    __slots__ = ("_known", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[bytes, Head] = {}

    def parsed(self, data: bytes) -> Head:
        """Return the request whose head these bytes are, to the last. Raises Refused."""
        found = LENGTH.search(data)
        if found is None or len(data) > MAX_FORM_BYTES:
            return parsed_head(data, self._limits)
        start, end = found.span(1)
        form = data[:start] + data[end:]
        if (known := self._known.get(form)) is not None:
            return known.with_length(found[1])
        head = usual_head(data, self._limits)
        if head is None:
            return any_head(data, self._limits)
        if len(self._known) >= MAX_FORMS:
            self._known.clear()
        head.form = form
        head.length_at = head.headers.index((b"content-length", found[1]))
        self._known[form] = head
        return head.with_length(found[1])


class Lines:
    """What llhttp finds in a head."""

    __slots__ = ("found", "headers", "repeated", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.found: dict[bytes, bytes] = {}
        """The headers that decide on framing and connection; lists are joined."""
        self.repeated: bytes | None = None
        """A header that came again and must not."""

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip(b" \t")
        self.headers.append((name, value))
        if name in UNDERSTOOD:
            before = self.found.get(name)
            self.found[name] = value if before is None else before + b"," + value
            if before is not None and name in ONCE:
                self.repeated = name


def head_end(data: bytes, limits: Limits) -> int:
    """Return where the head ends in the bytes so far; 0 = not yet. Raises Refused as early as it is sure."""
    end = data.find(END) + len(END)
    if end < len(END):
        if data.count(b"\n") != data.count(b"\r\n"):
            raise bad_request("lines must end with CR LF")
        if not data[:1].isupper() and not b"\r\n".startswith(data):
            raise bad_request("this is not an HTTP request")
        end = 0
    if (end or len(data)) > limits.max_header_bytes:
        _refuse_size(data, limits)
    return end


def _refuse_size(data: bytes, limits: Limits) -> None:
    line = data.partition(b"\r\n")[0]
    if len(line) > limits.max_target_bytes + 64:
        raise target_too_long(limits.max_target_bytes)
    raise headers_too_large(f"the headers have more than {limits.max_header_bytes} bytes")


def parsed_head(data: bytes, limits: Limits) -> Head:
    """Return the request whose head these bytes are, to the last. Raises Refused."""
    return usual_head(data, limits) or any_head(data, limits)


def usual_head(data: bytes, limits: Limits) -> Head | None:
    """Return what `any_head` would return, None for a head that has something unusual. Raises Refused."""
    found = USUAL.fullmatch(data)
    if found is None:
        return None
    method, target = found.groups()
    headers = [(name.lower(), value) for name, value in LINE.findall(data, found.end(2))]
    known = dict(headers)
    length = known.get(b"content-length", b"0")
    if (
        len(known) != len(headers)
        or len(headers) > limits.max_headers
        or len(target) > limits.max_target_bytes
        or not UNUSUAL.isdisjoint(known)
        or known.get(b"connection", b"keep-alive") != b"keep-alive"
        or not length.isdigit()
        or len(length) > MAX_USUAL_DIGITS
    ):
        return None
    path, _, query = target.partition(b"?")
    head = Head(method, path, query, headers, is_http11=True)
    _check_host(head, known.get(b"host"), limits)
    head.content_length = int(length)
    return head


def any_head(data: bytes, limits: Limits) -> Head:
    """Return the request whose head these bytes are. Raises Refused."""
    lines = Lines()
    parser = httptools.HttpRequestParser(lines)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an upgrade is decided on below
    except httptools.HttpParserError as exc:
        raise bad_request(f"this is not an HTTP request: {exc}") from exc
    method = parser.get_method()
    if method == b"CONNECT":  # whoever stands before us takes all that follows for a tunnel
        raise bad_request("this is not a proxy")
    _check_sizes(lines, limits)
    is_http11 = _is_http11(data, b"%b %b HTTP/1." % (method, lines.target))
    path, _, query = lines.target.partition(b"?")
    head = Head(method, path, query, lines.headers, is_http11)
    _understand(head, lines.found, limits)
    return head


def _check_sizes(lines: Lines, limits: Limits) -> None:
    if len(lines.target) > limits.max_target_bytes:
        raise target_too_long(limits.max_target_bytes)
    if len(lines.headers) > limits.max_headers:
        raise headers_too_large(f"there are more than {limits.max_headers} headers")
    # llhttp has refused control bytes and what is not ASCII.
    if not lines.target.startswith(b"/") or b"#" in lines.target:
        raise bad_request("the target must be a path, with or without a query")
    if CONTROL.search(lines.target.partition(b"?")[0]):
        raise bad_request("the path holds a control character")
    if lines.repeated is not None:
        raise bad_request(f"there is more than one header {lines.repeated.decode()}")


def _is_http11(data: bytes, line: bytes) -> bool:
    """Say which version the request line names; `line` is all of it before the minor version."""
    version = data[len(line) : len(line) + 3]
    if not data.startswith(line) or version not in (b"0\r\n", b"1\r\n"):
        raise bad_request("the first line must be a method, a path and HTTP/1.1, with single blanks between")
    return version == b"1\r\n"


def _understand(head: Head, found: dict[bytes, bytes], limits: Limits) -> None:
    """Fill in what the headers say of framing and connection. Raises Refused."""
    _check_host(head, found.get(b"host"), limits)
    _frame(head, found.get(b"content-length"), found.get(b"transfer-encoding"))
    if not head.is_http11:
        head.keeps_alive = False
        return
    options = found.get(b"connection")
    if options is not None:
        _connect(head, {option.strip() for option in options.lower().split(b",")}, found)
    expected = found.get(b"expect")
    if expected is not None:
        if expected.lower() != b"100-continue":
            raise expectation_failed()
        head.expects_continue = head.has_body


def _connect(head: Head, options: set[bytes], found: dict[bytes, bytes]) -> None:
    head.keeps_alive = b"close" not in options
    head.is_upgrade = b"upgrade" in options and found.get(b"upgrade", b"").lower() == b"websocket"
    if head.is_upgrade and (head.method != b"GET" or head.has_body):
        raise bad_request("a WebSocket starts with GET and no body")


def _check_host(head: Head, host: bytes | None, limits: Limits) -> None:
    if host is None:
        if head.is_http11:
            raise bad_request("the header host is missing")
        return
    if not HOST.fullmatch(host):
        raise bad_request("the header host is not a host")
    if limits.allowed_hosts is not None and not is_allowed(host, limits.allowed_hosts):
        raise misdirected(host.decode())


def is_allowed(host: bytes, allowed: frozenset[bytes]) -> bool:
    """Say whether a host is listed, as it is or without its port."""
    host = host.lower()
    return host in allowed or (not host.endswith(b"]") and host.rpartition(b":")[0] in allowed)


def _frame(head: Head, length: bytes | None, encoding: bytes | None) -> None:
    if encoding is not None:
        if length is not None:
            raise bad_request("content-length and transfer-encoding exclude each other")
        if encoding.lower() != b"chunked" or not head.is_http11:
            raise bad_request("the only transfer-encoding is chunked, in HTTP/1.1")
        head.is_chunked = True
    elif length is not None:
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
            raise bad_request("content-length is not a number")
        head.content_length = int(length)
