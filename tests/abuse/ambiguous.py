"""Requests that could be read in two ways, each with another behind it for whoever misreads the first."""

from __future__ import annotations

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = b"POST /v1/tokenize HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
LENGTH, CODING = b"content-length: 5", b"transfer-encoding: chunked"
FIVE, NOTHING = b"12345", b"0\r\n\r\n"


def headed(
    *headers: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1", body: bytes = b""
) -> bytes:
    """Return a request with these headers, and the second one behind it."""
    lines = [method + b" /v1/tokenize " + version, b"host: a", *headers]
    return b"\r\n".join([*lines, b"", b""]) + body + SMUGGLED


def first(header: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return a request whose first header is not its host."""
    lines = [b"POST /v1/tokenize HTTP/1.1", header, b"host: a", *headers]
    return b"\r\n".join([*lines, b"", b""]) + body + SMUGGLED


def lined(data: bytes) -> bytes:
    """Return a request whose lines and their ends are as given."""
    return data + SMUGGLED


def chunks(data: bytes) -> bytes:
    """Return a request with such chunks."""
    return CHUNKED + data + SMUGGLED


def spaced(name: bytes, value: bytes) -> list[bytes]:
    """Return ways to write a header that somebody reads as this one and somebody else does not."""
    return [
        name + b" : " + value, name + b"\t:" + value, b" " + name + b": " + value, name + b":\x0b" + value,
        name + b": " + value + b"\x00", name + b"\x00: " + value, name + b":\n " + value,
        name + b":\r\n " + value, name + b"\r: " + value, name + b"; " + value, b"\t" + name + b": " + value,
        b"\x00" + name + b": " + value, name + b":\r\n\t" + value, b"x: y\n" + name + b": " + value,
        b"x: y\r" + name + b": " + value, b"x\r\n" + name + b": " + value,
        b"\xef\xbb\xbf" + name + b": " + value, name + b"\xe2\x80\x8b: " + value, name + b"\xa0: " + value,
        name[:3] + b" " + name[3:] + b": " + value,
    ]  # fmt: skip


LENGTHS = [
    b"", b"+5", b"-5", b"-0", b"5, 5", b"5,5", b"5 ,5", b"5,6", b"5,", b",5", b"5;5", b"5 5", b"5\t5", b"0x5",
    b"0X5", b"5h", b"5L", b"0o5", b"5_0", b"5.0", b"5e0", b"1e1", b"'5'", b'"5"', b"(5)", b"\x005",
    b"5\x0b", b"\x0c5", b"5\xa0", b"\xb2", b"\xd9\xa5", b"\xef\xbc\x95", b"five", b"NaN",
    b"9" * 30, b"18446744073709551621", b"0" * 40 + b"5",
]  # fmt: skip
CODINGS = [
    b"", b"gzip", b"deflate", b"chunked, gzip", b"gzip, chunked", b"gzip,chunked", b"chunked, chunked",
    b"Chunked, CHUNKED", b"identity", b"chunked, identity", b"identity, chunked", b"trailers, chunked",
    b"xchunked", b"x-chunked", b"chunkedx", b"chunke", b"chun ked", b"chunked chunked", b"chunked;a=b",
    b"chunked; q=0", b"chunked,", b",chunked", b"chunked ,", b'"chunked"', b"'chunked'", b"chunked\x00",
    b"\x0bchunked", b"\x0cchunked", b"chunked\xa0", b"chunked\x0b", b"\xe2\x84\xaahunked",
]  # fmt: skip
SIZES = [
    b"", b"x", b"g", b"-1", b"-0", b"+1", b"0x1", b"0X1", b"x1", b"1h", b" 1", b"\t1", b"1 ", b"1\t", b"1 1",
    b"1_0", b"1.0", b"1,", b"1:", b"1=a", b"'1'", b"f" * 17, b"1" * 40, b"0" * 16 + b"1", b"100000001",
    b"10000000000000001", b"1\x00", b"\x001", b"1\n", b"1\r", b"\r1", b"\n1", b"1\x0b", b"\x0b1", b"1\xa0",
    b"\xef\xbc\x91", b"1;a\nb", b"1;\n", b"1;a\rb", b'1;a="\n"', b"1;\x00", b"1;\x7f", b"1;\x0b", b"1 a=b",
]  # fmt: skip
TAILS = [
    b"", b"\r", b"\n", b"\n\r", b"xx", b"\n\n", b"\r\r", b"x\r\n", b" \r\n", b"\t\r\n", b"\x00\r\n",
    b"\r \n", b"\r\n\r\n", b"\r\n\n",
]  # fmt: skip
LASTS = [
    b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"0\r\r", b"0\r\r\n", b"0\r\n\r\r\n", b"0\r\n \r\n", b"0 \r\n\r\n",
    b"00\n\n", b"0;a\n\r\n", b"-0\r\n\r\n", b"0x0\r\n\r\n", b"0\x00\r\n\r\n", b" 0\r\n\r\n",
]  # fmt: skip
TRAILERS = [
    b"x-a: b", b"content-length: 5", b"Content-Length: 0", b"transfer-encoding: chunked", b"host: b",
    b"authorization: Bearer sesame", b"a: b\n", b"a: b\r", b"\0", b"x", b":", b" a: b", b"a : b", b"a: \0",
]  # fmt: skip
VERSIONS = [
    b"", b"HTTP/0.9", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/1.1\x0b",
    b"HTTP/1.1\x00", b"http/1.1", b"Http/1.1", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01", b"HTTP/1", b"ICY",
    b"HTTP/1.", b"HTTP/.1", b"HTTP/1,1", b"HTTP/1.1.1", b"HTTP/-1.1", b"HTTP/+1.1", b"HTTP /1.1",
    b"HTTPS/1.1", b" HTTP/1.1", b"\tHTTP/1.1", b"a HTTP/1.1", b"HTTP/1.1 HTTP/1.1",
]  # fmt: skip
METHODS = [
    b"", b" GET", b"\tGET", b"GE T", b"GET ", b"GET\t", b"GET\x0b", b"get", b"Get", b"CONNECT", b"PRI",
    b"G\0T", b"\0GET", b"GET\0", b"GET,POST", b'"GET"', b"GET\x7f", b"G\xc3\x8bT", b"GET:", b"\nGET",
    b"\rGET", b"\r\n\r\nGET", b"\r\r\nGET", b"\n\r\nGET", b"\xef\xbb\xbfGET",
]  # fmt: skip
TARGETS = [
    b"", b"*", b"a", b"?a", b"#a", b"/#a", b"/ a", b"/\ta", b"\t/", b"//b /", b"http://a/", b"http://b/",
    b"HTTP://b/", b"https://b/", b"http://a@b/", b"http:///a", b"http:/a", b"a:80", b"b:80/", b"\\", b"%2f",
    b"/\x00", b"/\x01", b"/\x0b", b"/\x7f", b"/\xff", b"/\xc0\x80", b"/\r", b"/\n", b"/%00", b"/%0a", b"/%1b",
    b"/%7f", b"/%0d%0aa:b",
]  # fmt: skip
HOSTS = [
    b"", b"a b", b"a\tb", b"a,b", b"a, a", b"a;b", b"a/b", b"a/", b"a\\b", b"a#b", b"a?b", b"u@a", b"@a",
    b"http://a", b"a:b", b"a:-1", b"a:123456", b"a:80:80", b"a%00", b"a\x00", b"[::1", b"::1", b"[a", b"*",
    b"a\xa0", b"\xc3\xa4", b'"a"', b"a\x0b", b"(a)",
]  # fmt: skip
NAMES = [
    b"", b"a b", b"a\tb", b"a\x00b", b"\x00", b"\x7f", b"(a", b"a)", b"a,b", b"a;b", b'"a"', b"a/b", b"a?b",
    b"a@b", b"a[b]", b"{a}", b"a=b", b"\\a", b"n\xefme", b"<a>",
]  # fmt: skip
CONTROLS = [b"\x00", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\r", b"\n"]
LINES = [
    b"GET / HTTP/1.1\nhost: a\n\n", b"GET / HTTP/1.1\nhost: a\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\n\n", b"GET / HTTP/1.1\rhost: a\r\r", b"GET / HTTP/1.1\r\nhost: a\r\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r", b"GET / HTTP/1.1\r\nhost: a\n\r",
    b"GET / HTTP/1.1\r\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\rx: y\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n \r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\t\r\n\r\n", b"GET / HTTP/1.1\r\n host: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost:\r\n a\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n\t2\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\nhost: a\r\n\r\n",
    b"GET /\r\n\r\n", b"GET\r\n\r\n", b"HTTP/1.1 200 OK\r\nhost: a\r\n\r\n",
]  # fmt: skip
TWICE = [
    [LENGTH, LENGTH], [LENGTH, b"content-length: 6"], [b"content-length: 6", LENGTH],
    [LENGTH, b"Content-Length: 0"], [b"content-length: 0", LENGTH], [LENGTH, b"x: y", b"CONTENT-LENGTH: 5"],
    [LENGTH, b"content-length:"], [b"content-length:", LENGTH], [LENGTH, LENGTH, LENGTH],
]  # fmt: skip
CODED_TWICE = [
    [CODING, CODING], [CODING, b"Transfer-Encoding: identity"], [b"transfer-encoding: identity", CODING],
    [b"transfer-encoding: gzip", CODING], [CODING, b"transfer-encoding:"], [b"transfer-encoding:", CODING],
    [CODING, b"x: y", b"TRANSFER-ENCODING: chunked"],
]  # fmt: skip
BOTH = [
    [LENGTH, CODING], [CODING, LENGTH], [LENGTH, b"x: y", CODING], [CODING, b"x: y", LENGTH],
    [b"CONTENT-LENGTH: 5", CODING], [LENGTH, b"Transfer-Encoding: CHUNKED"], [b"content-length: 0", CODING],
    [CODING, b"content-length: 0"], [LENGTH, b"TRANSFER-ENCODING:chunked"], [b"content-length:5", CODING],
    [LENGTH, b"transfer-encoding: identity"], [LENGTH, b"transfer-encoding:"], [b"content-length:", CODING],
]  # fmt: skip
SWITCH = [
    b"upgrade: websocket",
    b"connection: upgrade",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: a",
]

AMBIGUOUS: list[bytes] = [
    *(headed(*headers, body=NOTHING) for headers in (*BOTH, *CODED_TWICE)),
    *(headed(*headers, body=FIVE) for headers in TWICE),
    *(headed(CODING, *more, version=b"HTTP/1.0", body=NOTHING) for more in ([], [b"connection: keep-alive"])),
    headed(LENGTH, CODING, version=b"HTTP/1.0", body=NOTHING),
    first(CODING, LENGTH, body=NOTHING), first(LENGTH, CODING, body=NOTHING),
    first(LENGTH, LENGTH, body=FIVE),
    headed(*SWITCH, LENGTH, method=b"GET", body=FIVE), headed(*SWITCH, CODING, method=b"GET", body=NOTHING),
    headed(*SWITCH, LENGTH, body=FIVE),
    headed(b"host: b"), headed(b"Host: a"), headed(b"x: y", b"HOST: a"), headed(b"host:"), first(b"host: b"),
    *(headed(LENGTH, line, body=FIVE) for line in spaced(b"transfer-encoding", b"chunked")),
    *(first(line, LENGTH, body=FIVE) for line in spaced(b"Transfer-Encoding", b"Chunked")),
    *(headed(line, body=FIVE) for line in spaced(b"content-length", b"5")),
    *(headed(line) for line in spaced(b"Host", b"b")),
    *(headed(b"content-length: " + value, body=FIVE) for value in LENGTHS),
    *(headed(b"transfer-encoding: " + value, body=NOTHING) for value in CODINGS),
    *(chunks(size + b"\r\na\r\n0\r\n\r\n") for size in SIZES),
    *(chunks(b"1\r\na" + tail + NOTHING) for tail in TAILS),
    *(chunks(b"1\r\na\r\n" + last) for last in LASTS),
    *(chunks(b"1\r\na\r\n0\r\n" + trailer + b"\r\n\r\n") for trailer in TRAILERS),
    *(headed(version=version) for version in VERSIONS),
    *(headed(method=method) for method in METHODS),
    *(headed(name + b": a") for name in NAMES),
    *(headed(b"x: a" + control + b"b") for control in CONTROLS),
    *(lined(b"GET " + target + b" HTTP/1.1\r\nhost: a\r\n\r\n") for target in TARGETS),
    *(lined(b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n") for host in HOSTS),
    *(lined(lines) for lines in LINES),
]  # fmt: skip
