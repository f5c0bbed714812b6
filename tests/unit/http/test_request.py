"""Request heads and paths are parsed strictly, within bounds, and unambiguously."""

from contextlib import suppress
from urllib.parse import unquote

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import request as request_module
from gateway.http.request import HeadParser, HeadReader, RequestError, decode_path, parameters
from tests.fuzz import fuzz_http


def parse(head, **more):
    return HeadParser(8192).parse(head if isinstance(head, bytes) else head.encode("latin-1"), **more)


def test_a_request_is_parsed_into_its_parts():
    request = parse(
        "GET /c1/live.m3u8?sign=1-a&x=%20+b HTTP/1.1\r\nHost: a:80\r\nUser-Agent: VLC \r\n"
        "Cookie: a=1\r\nCookie: b=2\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\r\n",
        peer="192.0.2.1",
        scheme="https",
    )
    assert (request.method, request.path, request.raw_query) == ("GET", "/c1/live.m3u8", "sign=1-a&x=%20+b")
    assert request.query == {"sign": "1-a", "x": "  b"}
    assert request.host == "a:80"
    assert request.headers["user-agent"] == "VLC"
    assert request.headers["cookie"] == "a=1; b=2"
    assert request.headers["x-forwarded-for"] == "1.1.1.1, 2.2.2.2"
    assert request.keep_alive and request.http11 and not request.has_body
    assert (request.peer, request.scheme) == ("192.0.2.1", "https")


def test_a_parser_can_be_reused_after_any_head():
    parser = HeadParser(8192)
    good = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    between = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/3.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\r\n\r\n",
    ]
    for n, head in enumerate(between):
        with suppress(RequestError):
            parser.parse(head)
        assert parser.parse(good % n).path == f"/{n}"


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://other:81/c1/x?y=1", "other:81", "/c1/x"),
        ("HTTP://other", "other", "/"),
        ("http://other?y=1", "other", "/"),
    ],
)
def test_an_absolute_request_target_determines_the_host(target, host, path):
    request = parse(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (request.host, request.path, request.raw_path) == (host, path, path)


@pytest.mark.parametrize("host", ["a/b", "a b", "a@b", "a:x", "[::1", "a,b", "", "a?b", "ü", "a:1:2", "a\\b"])
def test_a_host_with_invalid_characters_is_refused(host):
    with pytest.raises(RequestError):
        parse(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
    if not {"/", "?"} & set(host):  # there they begin a path or query of their own
        with pytest.raises(RequestError):
            parse(f"GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("host", ["example.com", "a:8080", "127.0.0.1:1", "[::1]", "[2001:db8::1]:8080", "under_score"])
def test_valid_hosts_are_accepted(host):
    assert parse(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").host == host


@pytest.mark.parametrize("target", ["ftp://a/b", "mailto:a", "a/b", "/a#b", "*", "//"])
def test_other_forms_of_the_request_target_are_refused(target):
    with pytest.raises(RequestError):
        parse(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")


def test_an_asterisk_request_target_is_accepted():
    assert parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path == "/"


TRAVERSALS = [
    "/open/../secret/live.m3u8", "/open/%2e%2e/secret/live.m3u8", "/open/%2E./secret/live.m3u8", "//secret/live.m3u8",
    "/open/..%2fsecret/live.m3u8", "/open/..%5csecret/x", "/open/..\\secret/x", "/a/./b", "/a/%2e/b", "/a//b", "/a%00b",
    "/a%0d%0ab", "/a%7fb", "/a%252e%252e/b", "/a%252fb", "/a%255Cb", "/a%2500", "/%", "/%2", "/%zz", "/%ff",
    "/%c0%ae%c0%ae/",
    "/..", "/a/..", "/.", "", "a", "/a%c2%85b", "/a/%2e%2E",
]  # fmt: skip


@pytest.mark.parametrize("raw", TRAVERSALS)
def test_ambiguous_paths_are_refused(raw):
    with pytest.raises(RequestError) as error:
        decode_path(raw)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/c1@720p/v/1-2.m4s", "/c1@720p/v/1-2.m4s"),
        ("/a/", "/a/"),
        ("/a%20b/%E9%AB%98.mp4", "/a b/高.mp4"),
        ("/100%25.mp4", "/100%.mp4"),
        ("/..a/b..", "/..a/b.."),
        ("/...", "/..."),
        ("/%63am1", "/cam1"),
    ],
)
def test_paths_are_decoded_once(raw, path):
    assert decode_path(raw) == path


@given(st.text(alphabet="/.%2eEfF5cC0ab\\", max_size=30))
def test_a_decoded_path_stays_safe_after_additional_decoding(raw):
    try:
        path = decode_path("/" + raw)
    except RequestError:
        return
    for _ in range(3):
        assert "//" not in path
        assert not {".", ".."} & set(path.split("/"))
        assert "\\" not in path
        if unquote(path) == path:
            break
        path = unquote(path)
        if "%" in path:
            return  # escapes of escapes: nothing here decodes that often


def test_query_parameters_keep_their_order_and_the_first_value_is_used():
    assert parameters("a=1&b&a=2&&c=%zz&%41=x=y&d=%ff") == [
        ("a", "1"),
        ("b", ""),
        ("a", "2"),
        ("c", "%zz"),
        ("A", "x=y"),
        ("d", "\ufffd"),
    ]
    assert parse("GET /?a=1&a=2 HTTP/1.1\r\nHost: a\r\n\r\n").query == {"a": "1"}


class _Oracle:
    def __init__(self):
        self.url, self.headers = b"", {}

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers[name.decode().lower()] = value


_token = st.text(alphabet="abcXYZ0123456789-_!#$", min_size=1, max_size=12)
_value = st.text(alphabet=[chr(c) for c in [*range(0x20, 0x7F), *range(0x80, 0x100)]], max_size=40)


@given(st.dictionaries(_token, _value, max_size=8), st.text(alphabet="abc/%41.~", max_size=20))
def test_accepted_requests_are_parsed_equally_by_httptools(headers, tail):
    lines = {k: v for k, v in headers.items() if k.lower() not in ("host", "connection", "upgrade")}
    head = f"GET /{tail} HTTP/1.1\r\nHost: a\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    raw = head.encode("latin-1")
    try:
        request = parse(raw)
    except RequestError:
        return
    oracle = _Oracle()
    httptools.HttpRequestParser(oracle).feed_data(raw)
    assert oracle.url.decode() == request.raw_path
    assert set(oracle.headers) == set(request.headers)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data):
    fuzz_http.fuzz(data)


@given(st.sampled_from(fuzz_http.SEEDS), st.integers(0, 400), st.binary(max_size=6))
def test_damaged_requests_are_parsed_or_refused(seed, at, change):
    at %= len(seed)
    fuzz_http.fuzz(seed[:at] + change + seed[at + len(change) :])


def test_only_short_paths_are_cached():
    request_module._decode_cached.cache_clear()
    decode_path("/" + "a" * 198)
    decode_path("/" + "a" * 4_000)
    assert request_module._decode_cached.cache_info().currsize == 1
    with pytest.raises(RequestError):
        decode_path("/" + "a" * 4_000 + "/../x")


# ---- one connection's heads ----

_LINES = st.sampled_from(
    [
        "GET /c1/live.m3u8 HTTP/1.1",
        "GET /c1/live.m3u8?_HLS_msn=3&x=%20+b?c HTTP/1.1",
        "GET /c1/live.m3u8? HTTP/1.1",
        "GET /%e4%b8%ad HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET /a//b HTTP/1.1",
        "GET /a/../b HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a b HTTP/1.1",
        "HEAD /c1/1.ts HTTP/1.1",
        "POST /c1/1.ts HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET /c1/1.ts HTTP/1.0",
        "GET http://other/c1/1.ts HTTP/1.1",
        "GET  /c1/1.ts HTTP/1.1",
        "GET /c1/1.ts  HTTP/1.1",
        "get /c1/1.ts HTTP/1.1",
        "GET /" + "x" * 9000 + " HTTP/1.1",
        "",
    ]
)
_BLOCKS = st.sampled_from(
    [
        "\r\nHost: a\r\n\r\n",
        "\r\nHost: a:80\r\nRange: bytes=0-9\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
        "\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "\r\nConnection: keep-alive\r\n\r\n",
        "\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "\r\nHost: a/b\r\n\r\n",
        "\r\nHost: a\r\nHost: a\r\n\r\n",
        "\r\nHost: a\r\nX: " + "y" * 2000 + "\r\n\r\n",
        "\r\n\r\n",
    ]
)


def _said(reader, head):
    try:
        request = reader.parse(head, "192.0.2.1", "https")
    except RequestError as error:
        return error.status, str(error)
    fields = [name for name in request.__slots__ if name != "_query"]
    return [getattr(request, name) for name in fields], request.query


@given(st.lists(st.tuples(_LINES, _BLOCKS), min_size=2, max_size=6))
def test_cached_header_blocks_are_parsed_like_new_ones(heads):
    reader = HeadReader(HeadParser(8192))
    for line, block in heads:
        head = (line + block).encode("latin-1")
        assert _said(reader, head) == _said(HeadParser(8192), head)


def test_cached_headers_of_http_1_0_are_checked_again_for_1_1():
    reader = HeadReader(HeadParser(8192))
    block = b"Connection: keep-alive\r\n\r\n"
    assert reader.parse(b"GET /a HTTP/1.0\r\n" + block).keep_alive
    with pytest.raises(RequestError, match="Host"):
        reader.parse(b"GET /a HTTP/1.1\r\n" + block)


def test_for_repeated_headers_only_the_request_line_is_parsed():
    class Counting(HeadParser):
        parsed = 0

        def parse(self, head, peer="", scheme="http"):
            self.parsed += 1
            return super().parse(head, peer, scheme)

    parser = Counting(8192)
    reader, other = HeadReader(parser), HeadReader(parser)
    paths = [reader.parse(b"GET /c1/%d.ts?a=b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n" % n).path for n in range(5)]
    assert paths == [f"/c1/{n}.ts" for n in range(5)]
    assert parser.parsed == 1
    other.parse(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n")
    assert parser.parsed == 2, "of another connection"


def test_the_players_of_a_stream_send_the_same_request_lines():
    parser = HeadParser(8192)
    block = b"\r\nHost: a\r\n\r\n"
    request_module._read_line_cached.cache_clear()
    for peer in ("192.0.2.1", "192.0.2.2"):
        reader = HeadReader(parser)
        reader.parse(b"GET / HTTP/1.1" + block, peer)
        request = reader.parse(b"GET /c1/%7E1.ts?a=b HTTP/1.1" + block, peer)
        said = (request.raw_path, request.path, request.raw_query, request.peer)
        assert said == ("/c1/%7E1.ts", "/c1/~1.ts", "a=b", peer)
    assert request_module._read_line_cached.cache_info()[:2] == (1, 1), "hits and misses"
    reader.parse(b"GET /%b HTTP/1.1" % (b"a" * 300) + block)
    assert request_module._read_line_cached.cache_info().currsize == 1, "long lines are not kept"
    for _ in range(2):
        with pytest.raises(RequestError, match="dot segment"):
            reader.parse(b"GET /a/../b HTTP/1.1" + block)
