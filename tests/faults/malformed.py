"""A corpus of HTTP that servers and proxies have read differently: what each piece of it must come to.

Sources: RFC 9112 (sections 2.2 line terminators, 3 request line, 5.1 and 5.2 field syntax, 6.1 and 6.3 message length,
7.1 chunks, 11.2 request smuggling), RFC 9110 (section 5.5 field values, 8.6 Content-Length), RFC 9113 (section 3.4
preface of HTTP/2).

Every case is one connection. `SMUGGLED` is a whole request that stands where none may stand: no engine may ever see it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.faults.recorder import CHAT, SECRET

REFUSED = (400,)
VISIBLE, HIDDEN = "visible", "smuggled"


def body(word: str) -> bytes:
    """A request's body whose prompt says one word."""
    return json.dumps({"model": "acme/chat", "messages": [{"role": "user", "content": word}]}).encode()


_SECRET = SECRET.encode()
_BODY = body(VISIBLE)
_LENGTH = len(_BODY)
_START = f"POST {CHAT} HTTP/1.1\r\n".encode()
_FIELDS = f"host: x\r\nauthorization: Bearer {SECRET}\r\n".encode()
_HEAD = _START + _FIELDS
_LENGTH_LINE = b"content-length: %d\r\n" % _LENGTH
_CHUNKED = b"transfer-encoding: chunked\r\n"
_WHOLE = _HEAD + _LENGTH_LINE + b"\r\n" + _BODY
_CHUNK = b"%x\r\n%s\r\n" % (_LENGTH, _BODY)
_IN_CHUNKS = _HEAD + _CHUNKED + b"\r\n" + _CHUNK + b"0\r\n\r\n"
_HIDDEN_BODY = body(HIDDEN)
SMUGGLED = _HEAD + b"content-length: %d\r\n\r\n" % len(_HIDDEN_BODY) + _HIDDEN_BODY


@dataclass(frozen=True)
class Case:
    """One connection's bytes.

    Attributes:
        statuses: of the answers, in order.
        either: other outcomes that are right too.
        reached: how many requests an engine gets, at most.
        closed: whether the gateway must close the connection by itself; if not, it must stay in step.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...] = REFUSED
    either: tuple[tuple[int, ...], ...] = ()
    reached: int = 0
    closed: bool = True

    def __str__(self) -> str:
        return self.name


def _head(*lines: bytes) -> bytes:
    return _HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _with(*lines: bytes) -> bytes:
    return _head(*lines, _LENGTH_LINE.strip()) + _BODY


def _served(name: str, data: bytes) -> Case:
    """What is in order, though it may look odd."""
    return Case(name, data, (200,), reached=1, closed=False)


def _lenient(name: str, data: bytes) -> Case:
    """What may be read or refused."""
    return Case(name, data, (200,), (REFUSED,), reached=1, closed=False)


def _around(line: bytes) -> bytes:
    """A request whose body looks like another."""
    return line + b" HTTP/1.1\r\n" + _FIELDS + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED


def _chunked(text: bytes) -> bytes:
    return _HEAD + _CHUNKED + b"\r\n" + text


_HEADER = _chunked(_CHUNK + b"0\r\n")

SMUGGLING = [
    Case("CL.TE", _head(b"content-length: 6", b"transfer-encoding: chunked") + b"0\r\n\r\nG" + SMUGGLED),
    Case(
        "CL.TE the other way round",
        _head(b"transfer-encoding: chunked", b"content-length: 5") + b"0\r\n\r\n" + SMUGGLED,
    ),
    Case("TE.CL", _head(b"transfer-encoding: chunked", b"content-length: 4") + b"5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    Case("TE in HTTP/1.0", _chunked(b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0") + SMUGGLED, either=((400, 200),)),
    *(
        Case(
            f"TE: {value.decode('latin-1')!r}", _head(b"transfer-encoding: " + value) + _CHUNK + b"0\r\n\r\n" + SMUGGLED
        )
        for value in (
            b"xchunked",
            b"chunked, identity",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"chunked, chunked",
            b"chunked;q=1",
            b"\x0bchunked",
            b"chunked\x0b",
            b"\xa0chunked",
            b'"chunked"',
            b"cow, chunked",
            b"chunked, cow",
            b"",
        )
    ),
    Case(
        "TE twice",
        _head(b"transfer-encoding: chunked", b"transfer-encoding: identity") + _CHUNK + b"0\r\n\r\n" + SMUGGLED,
    ),
    Case(
        "TE twice, chunked last",
        _head(b"transfer-encoding: cow", b"transfer-encoding: chunked") + _CHUNK + b"0\r\n\r\n" + SMUGGLED,
    ),
    Case("TE on a folded line", _head(b"transfer-encoding:\r\n chunked") + _CHUNK + b"0\r\n\r\n" + SMUGGLED),
    Case("TE with a space before its colon", _head(b"transfer-encoding : chunked") + _CHUNK + b"0\r\n\r\n" + SMUGGLED),
    Case("TE with CL and a space before the colon", _with(b"transfer-encoding : chunked") + SMUGGLED),
    Case("TE with a NUL", _with(b"transfer-encoding\0: chunked") + SMUGGLED),
    Case("TE behind a bare CR", _with(b"x: y\rtransfer-encoding: chunked") + SMUGGLED),
    Case("TE behind a bare LF", _with(b"x: y\ntransfer-encoding: chunked") + SMUGGLED),
]

LENGTHS = [
    Case("two different lengths", _with(b"content-length: 0") + SMUGGLED),
    Case("two equal lengths", _with(_LENGTH_LINE.strip()), either=((200,),), reached=1),
    Case("a list of lengths", _head(b"content-length: 0, %d" % _LENGTH) + _BODY + SMUGGLED),
    *(
        Case(f"length {value.decode('latin-1')!r}", _head(b"content-length: " + value) + _BODY + SMUGGLED)
        for value in (
            b"-1",
            b"+5",
            b"0x10",
            b"1e2",
            b"5 5",
            b"5,",
            b"",
            b"\xb2",
            b"5\0",
            b"1_0",
            b"5;a",
            b"five",
            b"18446744073709551616",
            b"18446744073709551621",
            b"9" * 40,
            b"-" + b"9" * 40,
        )
    ),
    *(
        Case(f"length {value}, more than is taken", _head(b"content-length: %d" % value), (413,))
        for value in (33_554_433, 2**31, 2**32 + 5, 2**63 - 1)
    ),
    _served("length with zeros before it", _head(b"content-length: 000%d" % _LENGTH) + _BODY),
    _served("length with space around it", _head(b"content-length: \t %d \t" % _LENGTH) + _BODY),
    Case("no length at all", _HEAD + b"\r\n", closed=False),
]

CHUNKS = [
    _served("chunks", _IN_CHUNKS),
    _served("chunk size in upper case, zeros before it", _chunked(b"0000%X\r\n%s\r\n0\r\n\r\n" % (_LENGTH, _BODY))),
    _lenient("a chunk extension", _chunked(b"%x;name=value\r\n%s\r\n0\r\n\r\n" % (_LENGTH, _BODY))),
    _lenient("a chunk extension in quotes", _chunked(b'%x;a="b"\r\n%s\r\n0\r\n\r\n' % (_LENGTH, _BODY))),
    Case("a chunk extension with a bare LF", _chunked(b"%x;\n%s\r\n0\r\n\r\n" % (_LENGTH, _BODY) + SMUGGLED)),
    Case("a chunk extension with a bare CR", _chunked(b"%x;a\rb\r\n%s\r\n0\r\n\r\n" % (_LENGTH, _BODY) + SMUGGLED)),
    Case("a chunk extension with a NUL", _chunked(b"%x;a\0b\r\n%s\r\n0\r\n\r\n" % (_LENGTH, _BODY) + SMUGGLED)),
    Case("a chunk extension without end", _chunked(b"1;" + b"a" * 200_000), either=((431,), (413,))),
    _lenient("chunk extensions without number", _chunked(b"1;a=b\r\n \r\n" * 200 + _CHUNK + b"0\r\n\r\n")),
    *(
        Case(f"chunk size {size.decode('latin-1')!r}", _chunked(size + b"\r\n" + _BODY + b"\r\n0\r\n\r\n" + SMUGGLED))
        for size in (
            b"-1",
            b"+5",
            b"0x5",
            b"g",
            b"",
            b" 5",
            b"5 5",
            b"\xb2",
            b"5\0",
            b"10000000000000005",
            b"f" * 40,
            b"\t5",
        )
    ),
    Case("chunk shorter than it says", _chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (_LENGTH - 1, _BODY) + SMUGGLED)),
    Case("chunk longer than it says, bare LF", _chunked(b"%x\n%s\r\n0\r\n\r\n" % (_LENGTH, _BODY) + SMUGGLED)),
    Case("chunk that ends in a bare LF", _chunked(b"%x\r\n%s\n0\r\n\r\n" % (_LENGTH, _BODY) + SMUGGLED)),
    Case("chunk that ends in a bare CR", _chunked(b"%x\r\n%s\r0\r\n\r\n" % (_LENGTH, _BODY) + SMUGGLED)),
    Case("last chunk with a bare LF", _chunked(_CHUNK + b"0\n\r\n" + SMUGGLED)),
    Case("end of chunks with a bare LF", _chunked(_CHUNK + b"0\r\n\n" + SMUGGLED)),
    _served("trailers", _HEADER + b"x-a: b\r\n\r\n"),
    _lenient("a length among the trailers", _HEADER + b"content-length: 500\r\n\r\n"),
    _lenient("chunks again among the trailers", _HEADER + _CHUNKED + b"\r\n"),
    _lenient("another key among the trailers", _HEADER + b"authorization: Bearer fh_x\r\nhost: y\r\n\r\n"),
    Case("trailers without end", _HEADER + b"x-a: " + b"b" * 400_000, either=((431,),)),
]

FIELDS = [
    Case("space before a colon", _with(b"x-a : b") + SMUGGLED),
    Case("space before the length's colon", _head(b"content-length : %d" % _LENGTH) + _BODY + SMUGGLED),
    Case("tab before the length's colon", _head(b"content-length\t: %d" % _LENGTH) + _BODY + SMUGGLED),
    Case("a folded field", _with(b"x-a: b\r\n c") + SMUGGLED),
    Case("a folded length", _head(b"content-length:\r\n %d" % _LENGTH) + _BODY + SMUGGLED),
    Case(
        "a folded key",
        _START + b"host: x\r\nauthorization:\r\n Bearer %s\r\n" % _SECRET + _LENGTH_LINE + b"\r\n" + _BODY + SMUGGLED,
    ),
    Case("space before the first field", _START + b" x-a: b\r\n" + _FIELDS + _LENGTH_LINE + b"\r\n" + _BODY + SMUGGLED),
    Case("a field without a colon", _with(b"x-a") + SMUGGLED),
    Case("a field without a name", _with(b": b") + SMUGGLED),
    Case("a NUL in a name", _with(b"x\0a: b") + SMUGGLED),
    Case("a NUL in a value", _with(b"x-a: b\0c") + SMUGGLED),
    Case("a bare CR in a value", _with(b"x-a: b\rc") + SMUGGLED),
    Case("a bare LF between fields", _with(b"x-a: b\nx-c: d") + SMUGGLED),
    Case("a bare LF at the end of the head", _HEAD + _LENGTH_LINE + b"\n" + _BODY + SMUGGLED),
    Case("bare LFs everywhere", (_HEAD + _LENGTH_LINE + b"\r\n").replace(b"\r\n", b"\n") + _BODY + SMUGGLED),
    Case("a bare LF in the request line", _WHOLE.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n") + SMUGGLED),
    Case("bytes beyond ASCII in a name", _with(b"x-\xe9: b") + SMUGGLED),
    Case("brackets in a name", _with(b"x(a): b") + SMUGGLED),
    _lenient("bytes beyond ASCII in a value", _with(b"x-a: \xe9\xff")),
    _served(
        "space behind the key",
        _START + b"host: x\r\nauthorization: Bearer %s \t\r\n" % _SECRET + _LENGTH_LINE + b"\r\n" + _BODY,
    ),
    Case("no Host", _START + b"authorization: Bearer %s\r\n" % _SECRET + _LENGTH_LINE + b"\r\n" + _BODY),
    Case("Host twice", _with(b"host: y")),
    Case("a key twice", _with(b"authorization: Bearer fh_other"), either=((401,),), closed=False),
    Case("a head of 100 KB", _with(b"x-a: " + b"b" * 100_000) + SMUGGLED, (431,)),
    Case(
        "ten thousand fields",
        _HEAD + b"a: b\r\n" * 10_000 + _LENGTH_LINE + b"\r\n" + _BODY,
        (200,),
        ((431,), REFUSED),
        1,
        closed=False,
    ),
    Case(
        "a hundred thousand fields",
        _HEAD + b"a: b\r\n" * 100_000 + _LENGTH_LINE + b"\r\n" + _BODY + SMUGGLED,
        (431,),
        (REFUSED,),
    ),
]

REQUEST_LINES = [
    Case("HTTP/0.9", b"GET /v1/models\r\n\r\n", either=((505,),)),
    Case("HTTP/0.9 without a line end, then a request", b"GET /v1/models\r\n" + SMUGGLED, either=((505,),)),
    Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, either=((405,), (505,))),
    Case("HTTP/2.0", _WHOLE.replace(b"HTTP/1.1", b"HTTP/2.0") + SMUGGLED, either=((505,),)),
    Case("HTTP/1.2", _WHOLE.replace(b"HTTP/1.1", b"HTTP/1.2") + SMUGGLED, either=((505,),)),
    Case("HTTP/0.9 by name", _WHOLE.replace(b"HTTP/1.1", b"HTTP/0.9") + SMUGGLED, either=((505,),)),
    *(
        Case(
            f"version {version.decode('latin-1')!r}", _WHOLE.replace(b"HTTP/1.1", version) + SMUGGLED, either=((505,),)
        )
        for version in (
            b"HTTP/1.10",
            b"HTTP/1",
            b"HTTP/11",
            b"http/1.1",
            b"HTTP /1.1",
            b"HTTP/1.1x",
            b"HTTPS/1.1",
            b"HTTP/+1.1",
            b"ICY/1.1",
        )
    ),
    Case("a tab in the request line", _WHOLE.replace(b"POST /", b"POST\t/") + SMUGGLED),
    Case("space before the method", b" " + _WHOLE + SMUGGLED),
    Case("a NUL in the target", _WHOLE.replace(b"/v1/chat", b"/v1\0/chat") + SMUGGLED),
    Case("a CR in the target", _WHOLE.replace(b"/v1/chat", b"/v1\r/chat") + SMUGGLED),
    Case("a space in the target", _WHOLE.replace(b"/v1/chat", b"/v1 /chat") + SMUGGLED),
    Case("no method", b"/v1/models HTTP/1.1\r\nhost: x\r\n\r\n"),
    Case("a method that nobody knows", _WHOLE.replace(b"POST", b"JUMP") + SMUGGLED),
    Case("a method in lower case", _WHOLE.replace(b"POST", b"post") + SMUGGLED),
    Case("a target without end", b"GET /" + b"a" * 400_000, (431,), ((414,),)),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500),
    Case("bytes", bytes(range(256)) * 4),
    Case("CONNECT", b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\n\r\n" + SMUGGLED, either=((404,), (405,))),
    Case("an upgrade", _with(b"connection: upgrade", b"upgrade: h2c") + SMUGGLED),
    Case(
        "an upgrade to websocket",
        b"GET /v1/models HTTP/1.1\r\n" + _FIELDS + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n" + SMUGGLED,
    ),
    Case(
        "absolute form",
        _WHOLE.replace(b"POST /", b"POST http://elsewhere.example/"),
        (200,),
        ((404,), REFUSED),
        1,
        closed=False,
    ),
    Case(
        "absolute form of another place",
        b"GET http://169.254.169.254/latest HTTP/1.1\r\n" + _FIELDS + b"\r\n",
        (404,),
        (REFUSED,),
        closed=False,
    ),
    Case("asterisk form", b"OPTIONS * HTTP/1.1\r\n" + _FIELDS + b"\r\n", (404,), (REFUSED, (405,)), closed=False),
    _lenient("empty lines before a request", b"\r\n\r\n" + _WHOLE),
]

PATHS = [
    Case(f"path {path}", _WHOLE.replace(CHAT.encode(), path.encode()), (404,), (REFUSED,), closed=False)
    for path in (
        "/v1/load_lora_adapter",
        "/metrics",
        "/tokenize",
        "/invocations",
        "/scale_elastic_ep",
        "/collective_rpc",
        "/sleep",
        "/inference/v1/generate",
        "/v1/chat/completions/../../../tokenize",
        "/v1/chat/completions/%2e%2e/%2e%2e/tokenize",
        "//v1/chat/completions",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1/chat/completions%00",
        "/v1/chat%2fcompletions",
        "/v1/chat/completions;a=b",
        "/v1//chat/completions",
        "/v1/./chat/completions",
    )
]

PIPELINES = [
    Case("two requests", _WHOLE + _WHOLE, (200, 200), reached=2, closed=False),
    Case("two requests in chunks", _IN_CHUNKS + _IN_CHUNKS, (200, 200), reached=2, closed=False),
    Case("twenty requests", _WHOLE * 20, (200,) * 20, reached=20, closed=False),
    Case("nonsense after a request", _WHOLE + b"nonsense\r\n\r\n" + SMUGGLED, (200, 400), reached=1),
    Case(
        "a body longer than it says",
        _HEAD + b"content-length: %d\r\n\r\n" % (_LENGTH - 1) + _BODY + SMUGGLED,
        (400, 400),
    ),
    Case("nothing after a request that closes", _with(b"connection: close") + SMUGGLED, (200,), reached=1),
    Case("nothing after HTTP/1.0", _WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0") + SMUGGLED, (200,), reached=1),
    Case("a GET with a body", _around(b"GET /v1/models"), (200,), (REFUSED,), closed=False),
    Case("a HEAD with a body", _around(b"HEAD /v1/models"), (200,), (REFUSED,), closed=False),
    Case("a body on an unknown path", _around(b"POST /x"), (404,), closed=False),
    Case(
        "a large body that is refused by its head",
        b"POST /x HTTP/1.1\r\n" + _FIELDS + b"content-length: 100000\r\n\r\n" + SMUGGLED,
        (404,),
    ),
    Case(
        "a refused expectation",
        _START + b"host: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        (401,),
    ),
    Case("an expectation that nobody knows", _with(b"expect: 200-ok"), (200,), ((417,), REFUSED), 1, closed=False),
]

CORPUS = [*SMUGGLING, *LENGTHS, *CHUNKS, *FIELDS, *REQUEST_LINES, *PATHS, *PIPELINES]
