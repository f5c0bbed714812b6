"""Addresses of RTMP, and the forms in which encoders name a stream."""

import pytest

from gateway.protocols.rtmp.url import RtmpUrl, StreamTarget, app_allowed, parse_url, resolve


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("rtmp://h/stream/id?sign=1-a", RtmpUrl(False, "h", 1935, "stream", "id?sign=1-a")),
        ("rtmps://h/app/sk_us_abc", RtmpUrl(True, "h", 443, "app", "sk_us_abc")),
        ("RTMPS://H:1938/stream/id", RtmpUrl(True, "h", 1938, "stream", "id")),
        ("rtmp://[2001:db8::1]:1936/stream/inst/id", RtmpUrl(False, "2001:db8::1", 1936, "stream/inst", "id")),
        ("rtmp://h/stream", RtmpUrl(False, "h", 1935, "stream", "")),
        ("rtmp://h/stream/", RtmpUrl(False, "h", 1935, "stream", "")),
        ("rtmp://h/stream?sign=1-a/id", RtmpUrl(False, "h", 1935, "stream?sign=1-a", "id")),
        ("rtmp://h/stream/id?next=a/b#c", RtmpUrl(False, "h", 1935, "stream", "id?next=a/b#c")),
    ],
)
def test_addresses(url: str, wanted: RtmpUrl) -> None:
    assert parse_url(url) == wanted


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h/a/b", "scheme"),
        ("rtmp:///a/b", "no host"),
        ("rtmp://h", "no app"),
        ("rtmp://h:99999/a/b", "port"),
        ("rtmp://h:0/a/b", "port"),
        ("rtmp://h:x/a/b", "port"),
        ("rtmp://h/a/b\r\nc", "control"),
    ],
)
def test_an_invalid_address_is_refused_without_showing_the_key(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "tc_url"),
    [
        ("rtmp://h/stream/id", "rtmp://h/stream"),
        ("rtmp://h:1936/stream/id", "rtmp://h:1936/stream"),
        ("rtmps://[::1]/a/i/id", "rtmps://[::1]/a/i"),
    ],
)
def test_tc_url(url: str, tc_url: str) -> None:
    assert parse_url(url).tc_url == tc_url


def test_an_address_as_text_does_not_show_the_key() -> None:
    assert str(parse_url("rtmps://h/app/sk_us_secret?x=y")) == "rtmps://h/app/sk_u…"
    assert "secret" not in str(parse_url("rtmp://h/stream?sign=secret/id"))


@pytest.mark.parametrize(
    ("app", "tc_url", "name", "wanted"),
    [
        ("stream", "rtmp://h/stream", "id?sign=1-a", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream?sign=1-a", "", "id", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream", "rtmp://h/stream?sign=1-a", "id", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream/inst", "", "id?sign=1-a", StreamTarget("stream", "inst", "id", {"sign": "1-a"})),
        ("stream/id?sign=1-a", "", "", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream/inst/id?sign=1-a", "", "", StreamTarget("stream", "inst", "id", {"sign": "1-a"})),
        ("stream?sign=1-a/id", "", "", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("/stream/", "", "/id/", StreamTarget("stream", "", "id", {})),
        (
            "stream?sign=app",
            "rtmp://h?sign=tc",
            "id?sign=name&a=%20b",
            StreamTarget("stream", "", "id", {"sign": "name", "a": " b"}),
        ),
        ("stream", "", "id?a", StreamTarget("stream", "", "id", {"a": ""})),
        ("", "", "", StreamTarget("", "", "", {})),
        ("stream", "", "id?sign=1-a/", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream", "", "mp4:id?sign=1-a", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream", "", "flv:id", StreamTarget("stream", "", "id", {})),
        ("stream", "", "id%3Fsign=1-a", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream", "", "id%3fsign%3D1-a", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream", "", "id?next=a/", StreamTarget("stream", "", "id", {"next": "a/"})),
        # The whole address: a camera of mediamtx #4309, and owners who paste it as the key.
        ("stream", "", "rtmp://h:1935/stream/id?sign=1-a", StreamTarget("stream", "", "id", {"sign": "1-a"})),
        ("stream", "rtmp://h/stream", "RTMPS://h/stream/i/id", StreamTarget("stream", "i", "id", {})),
        ("stream", "", "rtmp%3A%2F%2Fh%2Fstream%2Fid%3Fsign%3D1-a", StreamTarget("stream", "", "id", {"sign": "1-a"})),
    ],
)
def test_targets(app: str, tc_url: str, name: str, wanted: StreamTarget) -> None:
    assert resolve(app, tc_url, name) == wanted


def test_a_query_of_too_many_parameters_is_no_query() -> None:
    assert resolve("stream", "", "id?" + "&".join(f"a{i}=1" for i in range(100))).query == {}


def test_allowed_apps() -> None:
    assert app_allowed("stream/inst?x=/live", {"stream"})
    assert app_allowed("/stream/", {"stream"})
    assert not app_allowed("live", {"stream"})
    assert not app_allowed("streams", {"stream"})
