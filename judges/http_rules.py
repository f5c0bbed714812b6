"""Rules of HTTP/1.1 (RFC 9110, 9111, 9112) on raw sockets; and that a head that does not come closes its connection."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from judges.findings import Findings

READ_SECONDS = 4.0
# What a slow head may take above its limit before it is closed, in seconds.
HEAD_GRACE = 5.0

# Requests that another server might read as two; each must be refused and its connection closed.
SMUGGLING = {
    "Content-Length and Transfer-Encoding": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "two Content-Lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "a list as Content-Length": b"Content-Length: 5, 6\r\n",
    "a sign in Content-Length": b"Content-Length: +5\r\n",
    "a negative Content-Length": b"Content-Length: -1\r\n",
    "a hexadecimal Content-Length": b"Content-Length: 0x5\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "a space before the colon": b"Content-Length : 5\r\n",
    "NUL in a value": b"X-A: a\0b\r\n",
    "CR in a value": b"X-A: a\rb\r\n",
    "an empty name": b": b\r\n",
    "a space in a name": b"X A: b\r\n",
}
# These may be accepted: RFC 9112 §5.2 and §2.2 leave it to the server, as long as it reads one request.
LENIENT = {
    "a folded line": b"X-A: b\r\n c\r\n",
    "a bare LF": b"X-A: b\nX-B: c\r\n",
    "the identity coding": b"Transfer-Encoding: identity\r\n",
}
PATHS = (
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/a/..%5c..%5cetc", "//etc/passwd",
    "/%00", "/%zz", "/%ff%fe", "/\x7f",
)  # fmt: skip
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n",
    b"GET /\r\n\r\n", bytes(300), b"GET / HTTP/1.1 X\r\nHost: x\r\n\r\n", b"A" * 100_000,
)  # fmt: skip
CODINGS = {
    "gzip": True, "gzip;q=0": False, "gzip; q=0.000": False, "gzip;q=0.5": True, "identity": False, "*;q=0": False,
    "identity;q=0": True, "br": False, "deflate, gzip;q=1.0, *;q=0.5": True, "GZIP": True, "": False,
}  # fmt: skip


@dataclass(frozen=True)
class Response:
    """One answer; status 0: none came."""

    status: int = 0
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        return ", ".join(self.headers.get(name, []))


@dataclass(frozen=True)
class Exchange:
    """What came back on one connection. closed: by the server."""

    responses: list[Response]
    closed: bool
    raw: bytes

    @property
    def first(self) -> Response:
        return self.responses[0] if self.responses else Response()

    @property
    def status(self) -> int:
        return self.first.status

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]

    @property
    def final(self) -> list[int]:
        """Statuses without those of 1xx."""
        return [status for status in self.statuses if status >= 200]


def parse_responses(data: bytes, *, head: bool = False) -> list[Response]:
    """Reads pipelined answers. head: they answer HEAD, so no body follows."""
    found = []
    while data:
        block, separator, rest = data.partition(b"\r\n\r\n")
        first, *lines = block.split(b"\r\n")
        words = first.split()
        if not separator or len(words) < 2 or not words[1].isdigit():
            break
        status = int(words[1])
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.strip().decode("latin-1"))
        if head or status < 200 or status in (204, 304):
            body, data = b"", rest
        elif "transfer-encoding" in headers:
            body, data = _chunked(rest)
        elif "content-length" in headers:
            size = int(headers["content-length"][0])
            body, data = rest[:size], rest[size:]
        else:
            body, data = rest, b""
        found.append(Response(status, headers, body))
    return found


def _chunked(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line.split(b";")[0] or b"0", 16)
        if size == 0:
            return body, data[2:]
        body, data = body + data[:size], data[size + 2 :]
    return body, b""


class HttpJudge:
    """Judges one listener. path: of a resource that a GET finds."""

    def __init__(self, host: str, port: int, path: str, findings: Findings) -> None:
        self.host, self.port, self.path = host, port, path
        self.findings = findings

    # ---- requests ----

    def request(
        self,
        path: str = "",
        extra: bytes = b"",
        method: bytes = b"GET",
        *,
        close: bool = True,
        version: bytes = b"1.1",
        host: bytes | None = b"",
    ) -> bytes:
        """A request as bytes. host: None for no Host, else its value; empty: the listener's own."""
        value = f"{self.host}:{self.port}".encode() if host == b"" else host
        lines = [method + b" " + (path or self.path).encode("latin-1") + b" HTTP/" + version]
        lines += [b"Host: " + value] if value is not None else []
        lines += [b"Connection: close"] if close else []
        return b"\r\n".join(lines) + b"\r\n" + extra + b"\r\n"

    def send(
        self, *pieces: bytes, head: bool = False, half_close: bool = False, wait: float = READ_SECONDS
    ) -> Exchange:
        """Sends pieces on a new connection and reads until the server closes, at most `wait` seconds a read."""
        data, closed = b"", False
        try:
            with socket.create_connection((self.host, self.port), timeout=wait) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    connection.sendall(piece)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while True:
                    piece = connection.recv(65536)
                    if not piece:
                        closed = True
                        break
                    data += piece
        except TimeoutError:
            closed = False
        except (ConnectionResetError, BrokenPipeError):
            closed = True
        return Exchange(parse_responses(data, head=head), closed, data)

    def get(self, path: str = "", extra: bytes = b"", **options: bool | float) -> Exchange:
        return self.send(self.request(path, extra), **options)  # type: ignore[arg-type]

    def expect(self, rule: str, exchange: Exchange, *statuses: int) -> None:
        """The first answer has one of these statuses."""
        self.findings.require(exchange.status in statuses, rule, exchange.status or exchange.raw[:60])

    # ---- rules ----

    def judge(self) -> None:
        """Every rule that needs nothing but the path."""
        for rules in (
            self.responses, self.heads, self.hosts, self.targets, self.methods, self.versions, self.preflight,
            self.smuggling, self.bodies, self.pipelining, self.limits, self.paths, self.codings, self.garbage,
        ):  # fmt: skip
            try:
                rules()
            except (OSError, ValueError) as error:
                self.findings.breaks("the answers can be read", f"{rules.__name__}: {error!r}")

    def responses(self) -> None:
        exchange = self.get()
        headers = exchange.first.headers
        self.expect("a GET finds it", exchange, 200)
        require = self.findings.require
        require("date" in headers, "9110 6.6.1 Date is there")
        require(exchange.closed, "9112 9.6 Connection: close is honoured")
        require(len(headers.get("content-length", [])) <= 1, "Content-Length stands once", headers)
        both = "content-length" in headers and "transfer-encoding" in headers
        require(not both, "9112 6.2 not both Content-Length and Transfer-Encoding", headers)
        exchange = self.send(self.request(extra=b"Connection: Close\r\n", close=False))
        require(exchange.closed, "9110 7.6.1 options of Connection in any case")
        self.expect("a half-closed client gets its answer", self.get(half_close=True), 200)

    def heads(self) -> None:
        require = self.findings.require
        plain = self.get().first
        exchange = self.send(self.request(method=b"HEAD"), head=True)
        self.expect("9110 9.3.2 HEAD is answered like GET", exchange, 200)
        require(not exchange.raw.partition(b"\r\n\r\n")[2], "9110 9.3.2 HEAD has no body", exchange.raw[-60:])
        same = exchange.first.header("content-type") == plain.header("content-type")
        require(same, "9110 9.3.2 HEAD has the Content-Type of GET", exchange.first.header("content-type"))

    def hosts(self) -> None:
        self.expect("9112 3.2 without Host: 400", self.send(self.request(host=None)), 400)
        self.expect("9112 3.2 two Hosts: 400", self.get(extra=b"Host: other\r\n"), 400)
        self.expect("9112 3.2 an invalid Host: 400", self.send(self.request(host=b"a b")), 400)

    def targets(self) -> None:
        absolute = self.get(f"http://{self.host}:{self.port}{self.path}")
        self.expect("9112 3.2.2 the absolute form is accepted", absolute, 200)
        exchange = self.send(self.request("*", method=b"OPTIONS"))
        self.expect("9112 3.2.4 OPTIONS * is answered", exchange, 200, 204, 400, 404, 405)

    def methods(self) -> None:
        for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"FOO"):
            exchange = self.send(self.request(method=method, extra=b"Content-Length: 0\r\n"))
            refused = exchange.status in (401, 403, 404, 501)
            refused |= exchange.status == 405 and "allow" in exchange.first.headers
            rule = "9110 15.5.6 a method is refused with 405 and Allow, or 501"
            self.findings.require(refused, rule, f"{method.decode()} {exchange.status}")
        exchange = self.send(self.request(method=b"FOO"))
        self.expect("9110 9.1 an unknown method is 501 or 405", exchange, 501, 405)
        self.expect("9110 9.1 methods are case-sensitive", self.send(self.request(method=b"get")), 400, 405, 501)

    def versions(self) -> None:
        self.expect("9110 15.6.6 HTTP/2.0: 505 or 400", self.send(self.request(version=b"2.0")), 505, 400)
        exchange = self.send(self.request(version=b"1.0", host=None, close=False))
        self.expect("HTTP/1.0 without Host is served", exchange, 200)
        self.findings.require(exchange.closed, "9112 9.3 HTTP/1.0 closes")
        chunked = "transfer-encoding" in exchange.first.headers
        self.findings.require(not chunked, "9112 6.1 no chunks for HTTP/1.0", exchange.first.headers)
        kept = self.send(self.request(extra=b"Connection: keep-alive\r\n", version=b"1.0", close=False), wait=2.0)
        says = kept.first.header("connection").lower() == "keep-alive"
        self.findings.require(kept.closed != says, "9112 9.3 keep-alive of HTTP/1.0 is as told", kept.first.headers)

    def preflight(self) -> None:
        asks = b"Origin: http://x\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: range\r\n"
        exchange = self.send(self.request(method=b"OPTIONS", extra=asks))
        headers = exchange.first.headers
        allowed = "access-control-allow-origin" in headers and "access-control-allow-methods" in headers
        self.findings.require(exchange.status in (200, 204) and allowed, "a CORS preflight is answered", headers)
        empty = exchange.status != 204 or "content-length" not in headers
        self.findings.require(empty, "9110 8.6 204 has no Content-Length", headers)

    def smuggling(self) -> None:
        for name, lines in SMUGGLING.items():
            exchange = self.send(self.request(extra=lines, close=False) + b"0\r\n\r\n", wait=2.0)
            refused = exchange.status in (400, 501) and exchange.closed
            words = f"{name}: {exchange.statuses}, {'closed' if exchange.closed else 'open'}"
            self.findings.require(refused, "9112 11.2 an ambiguous request is refused and closed", words)
        for name, lines in LENIENT.items():
            exchange = self.send(self.request(extra=lines, close=False) + b"0\r\n\r\n", wait=2.0)
            one = len(exchange.responses) <= 2
            self.findings.require(one, "9112 11.2 an unusual request is one request", f"{name}: {exchange.statuses}")

    def bodies(self) -> None:
        follow = self.request()
        bodies = {
            "a length": (b"Content-Length: 5\r\n", b"HELLO"),
            "chunks": (b"Transfer-Encoding: chunked\r\n", b"5\r\nHELLO\r\n0\r\n\r\n"),
            "extensions and trailers": (
                b"Transfer-Encoding: chunked\r\n", b'5;ext="a"\r\nHELLO\r\n0\r\nTrailer: x\r\n\r\n',
            ),
        }  # fmt: skip
        for name, (header, body) in bodies.items():
            exchange = self.send(self.request(extra=header, close=False) + body + follow)
            whole = exchange.statuses in ([200, 200], [400], [413]) or (exchange.responses and exchange.closed)
            self.findings.require(whole, "the body of a GET is no request", f"{name}: {exchange.statuses}")
        exchange = self.send(self.request(extra=b"Expect: 100-continue\r\nContent-Length: 3\r\n") + b"abc")
        answered = exchange.final[:1] in ([200], [417], [400], [413])
        self.findings.require(answered, "9110 10.1.1 Expect: 100-continue is answered", exchange.statuses)
        unknown = self.get(extra=b"Expect: 200-maybe\r\n")
        self.expect("9110 10.1.1 an unknown expectation is 417 or ignored", unknown, 417, 200, 400)

    def pipelining(self) -> None:
        exchange = self.send(self.request(close=False) * 9 + self.request())
        words = f"{len(exchange.responses)} of 10"
        self.findings.require(exchange.statuses == [200] * 10, "9112 9.3.2 pipelined requests are answered", words)
        whole = self.request()
        pieces = [whole[at : at + 1] for at in range(60)] + [whole[60:]]
        self.expect("a request byte by byte is read", self.send(*pieces), 200)
        self.expect("9112 2.2 an empty line before a request (should)", self.send(b"\r\n\r\n" + whole), 200)

    def limits(self) -> None:
        self.expect("9110 15.5.15 a long target is refused", self.get("/" + "a" * 9000), 414, 400, 404, 431)
        self.expect("9110 15.5.15 a very long target is refused", self.get("/" + "a" * 200_000), 414, 400, 431)
        long = b"X: " + b"a" * 200_000 + b"\r\n"
        self.expect("6585 5 a very long header is refused", self.get(extra=long), 431, 400)
        many = b"".join(b"X%d: a\r\n" % index for index in range(5000))
        self.expect("6585 5 5,000 headers are refused", self.get(extra=many), 431, 400)

    def paths(self) -> None:
        for path in PATHS:
            exchange = self.get(path)
            refused = 400 <= exchange.status < 500
            self.findings.require(refused, "a path out of the tree is refused", f"{path!r} {exchange.status}")

    def codings(self) -> None:
        for accepted, allowed in CODINGS.items():
            response = self.get(extra=b"Accept-Encoding: " + accepted.encode() + b"\r\n").first
            if not response.header("content-encoding"):
                continue
            self.findings.require(allowed, "9110 12.5.3 gzip where it is accepted only", accepted)
            varies = "accept-encoding" in response.header("vary").lower()
            self.findings.require(varies, "9110 12.5.5 Vary names Accept-Encoding", response.header("vary"))
            self.findings.require(gzip.decompress(response.body), "a gzip body can be read")

    def ranges(self, path: str) -> None:
        """RFC 9110 §14 on a file that does not change."""
        plain = self.get(path).first
        whole, size = plain.body, len(plain.body)
        self.findings.require(plain.status == 200 and size > 100, "a file is served", f"{path} {plain.status}")
        if plain.header("accept-ranges") != "bytes":
            return
        wanted: dict[str, tuple[int, bytes | None]] = {
            "bytes=0-9": (206, whole[:10]), "bytes=10-": (206, whole[10:]), "bytes=-7": (206, whole[-7:]),
            f"bytes={size}-": (416, None), "bytes=0-0": (206, whole[:1]), f"bytes=0-{size + 99}": (206, whole),
            "bytes=-0": (416, None), f"bytes=-{size + 5}": (206, whole), "bytes=5-2": (200, whole),
            "items=0-1": (200, whole), "bytes=a-b": (200, whole),
        }  # fmt: skip
        for value, (status, body) in wanted.items():
            response = self.get(path, b"Range: " + value.encode() + b"\r\n").first
            fits = response.status == status or (status == 200 and response.status in (400, 416))
            self.findings.require(fits, f"9110 14.2 a range: {status}", f"{value} {response.status}")
            if response.status == 206:
                self.findings.require(response.body == body, "9110 15.3.7 the bytes of a range", value)
                self.findings.require("content-range" in response.headers, "9110 15.3.7 Content-Range", value)
            if response.status == 416:
                told = response.header("content-range")
                self.findings.require(told == f"bytes */{size}", "9110 15.5.17 Content-Range of 416", told)
        response = self.get(path, b'Range: bytes=0-9\r\nIf-Range: "nope"\r\n').first
        self.findings.require(response.status == 200, "9110 13.1.5 If-Range that does not match: 200", response.status)

    def conditions(self, path: str) -> None:
        """RFC 9110 §13 on a file with an ETag."""
        plain = self.get(path).first
        tag = plain.header("etag")
        self.findings.require(tag, "8.8.3 a page has an ETag", path)
        if not tag:
            return
        wanted = {tag: 304, "W/" + tag.removeprefix("W/"): 304, "*": 304, f'"x", {tag}, "y"': 304, '"x"': 200}
        for value, status in wanted.items():
            response = self.get(path, b"If-None-Match: " + value.encode() + b"\r\n").first
            words = f"{value} {response.status}"
            self.findings.require(response.status == status, f"9110 13.1.2 If-None-Match: {status}", words)
            if response.status == 304:
                self.findings.require("etag" in response.headers, "9110 15.4.5 304 repeats the ETag", value)

    def garbage(self) -> None:
        # A line that has not ended may go on until the time for a head is over: see slow_heads.
        for data in (data for data in GARBAGE if b"\n" in data or len(data) > 65536):
            exchange = self.send(data, wait=3.0)
            refused = exchange.closed and (not exchange.raw or exchange.raw[9:10] in (b"4", b"5"))
            self.findings.require(
                refused, "9112 2.2 garbage is refused and closed", f"{data[:12]!r} {exchange.raw[:40]!r}"
            )


def judge(host: str, port: int, path: str, findings: Findings, *, file: str = "", page: str = "") -> None:
    """Judges a listener. file: path of a segment or recording; page: of a resource with an ETag."""
    one = HttpJudge(host, port, path, findings)
    one.judge()
    if file:
        one.ranges(file)
    if page:
        one.conditions(page)


def slow_heads(listeners: Iterable[tuple[str, int]], limit: float, findings: Findings) -> None:
    """A connection without a whole request head is closed within the limit. listeners: host and port."""

    def closed_after(host: str, port: int, data: bytes) -> float | None:
        with socket.create_connection((host, port), timeout=limit + HEAD_GRACE) as connection:
            began = time.monotonic()
            connection.sendall(data)
            try:
                while connection.recv(4096):
                    pass
            except TimeoutError:
                return None
            except OSError:
                findings.note("reset", f"{host}:{port}")
            return time.monotonic() - began

    heads = {"nothing": b"", "half a head": b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n"}
    cases = [(host, port, name) for host, port in listeners for name in heads]
    with ThreadPoolExecutor(len(cases)) as pool:
        times = pool.map(lambda case: closed_after(case[0], case[1], heads[case[2]]), cases)
        for (_, port, name), seconds in zip(cases, times, strict=True):
            rule = f"9112 9.5 a connection that sends {name} is closed in time"
            findings.require(seconds is not None, rule, f"port {port} is open after {limit + HEAD_GRACE:.0f} s")
