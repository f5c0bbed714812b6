"""Stream names and addresses: an accepted one can be part of a path, a file name and a URL."""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePosixPath
from urllib.parse import quote

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of, is_channel_id, is_stream_name
from gateway.channels.slugs import OLD_SLUGS, RESERVED, is_slug, read_slug
from gateway.http.request import RequestError, decode_path
from gateway.playback.slugs import name_table
from gateway.protocols.rtmp.url import app_allowed, parse_url, resolve

SEEDS = [
    b"70ef9b07-adbe-478d-b098-d7c8efd84a98",
    b"70ef9b07-adbe-478d-b098-d7c8efd84a98@720p",
    b"stream/a.b_c-1?sign=1670371200-5db080c8cdca8764de881bc04e61e2b1",
    b"rtmps://user@[2001:db8::1]:1936/stream?sign=1-a/id?x=y/z",
    b"rtmp://host/live/inst/name?a=b&a=c",
    b"/c1/%e4%b8%ad/live.m3u8",
    b"..", b".a", b"a/../b", b"a%2fb", b"a\n", b"a@", b"@720p", b"a@720P", b"a\x00", "a٣".encode(),
    b"stage", b"vod", b"--", b"a", b"stage\n", b"70ef9b07adbe478db098d7c8efd84a98", b"STAGE", b"a_b",
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; an accepted name survives in a path, an address and its parser."""
    text = data.decode("utf-8", "surrogateescape")
    if is_stream_name(text):
        channel = channel_of(text)
        assert is_channel_id(channel)
        assert is_channel_id(text) is ("@" not in text)
        assert len(text) <= 161
        assert quote(text, safe="@") == text
        assert PurePosixPath(f"/a/{channel}").name == channel not in (".", "..")
        assert decode_path(f"/{text}/live.flv") == f"/{text}/live.flv"
        assert resolve("stream", "", text).name == text
        assert parse_url(f"rtmp://h/stream/{text}").name == text
    else:
        assert not is_channel_id(text)
    slug = ""
    with suppress(ValueError):
        slug = read_slug(text)
        if slug:
            assert is_slug(slug) and is_stream_name(slug) and slug not in RESERVED
            assert decode_path(f"/{slug}/live.flv") == f"/{slug}/live.flv"
    # A stored channel has any texts. Only slugs lead to it.
    table = name_table([Channel({"id": "c1", "slug": text, OLD_SLUGS: {text: 5, text[1:]: text}})])
    assert all(is_slug(name) for name in table)
    assert not slug or table[slug].id == "c1"
    half = len(text) // 2
    target = resolve(text[:half], text[::-1], text[half:])
    assert len(target.query) <= 3 * 32
    for word in (target.app, target.instance, target.name):
        assert len(word) <= len(text)
    app_allowed(text, ("stream",))
    for url in (text, "rtmp://h/" + text, "rtmps://" + text):
        with suppress(ValueError):
            found = parse_url(url)
            assert 1 <= found.port <= 65535
            assert found.host and found.app
            assert len(str(found)) <= len(url) + 20
            # A shown address never holds the name's query, which is the key.
            assert "?" not in str(found)
    with suppress(RequestError):
        path = decode_path("/" + text)
        assert path.startswith("/") and "//" not in path
        assert not {".", ".."} & set(path.split("/"))
