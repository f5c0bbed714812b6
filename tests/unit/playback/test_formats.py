"""How the router, edges and addresses use the descriptors of the formats."""

import pytest

from gateway.channels.addresses import Addresses, OpenPorts
from gateway.playback import formats
from gateway.playback.formats import (
    ADDRESSES,
    CMAF,
    FILES,
    FORMATS,
    HLS,
    OWN_PORTS,
    suffixes,
    viewer_protocol,
)
from gateway.playback.play_format import CacheClass, PlayAddress, PlayFormat, PlayListener
from gateway.playback.router import MediaRoutes
from tests.support.builders import channel
from tests.support.playback import SameResponder

TS_LIST = b"#EXTM3U\n#EXTINF:2.000,\n1700000000001.ts?millrace-query=0\n"
CMAF_LIST = b'#EXTM3U\n#EXT-X-MAP:URI="1-init-1.mp4?millrace-query=0"\n#EXTINF:2.000,\n1-1.m4s?millrace-query=0\n'


def _respond(request, stream, rest):
    raise AssertionError("nothing is asked for")


ROUTES = MediaRoutes.of(SameResponder(_respond), _respond)


@pytest.mark.parametrize(
    ("path", "output", "protocol"),
    [
        ("live.m3u8", "hls", "hls"),
        ("1700000000001.ts", "hls", "hls"),
        ("master.m3u8", "cmaf", "cmaf"),
        ("manifest.mpd", "cmaf", "dash"),
        ("video/index.m3u8", "cmaf", "cmaf"),
        ("audio/1-1.m4s", "cmaf", "cmaf"),
        ("video/1-init-1.mp4", "cmaf", "cmaf"),
        ("index.m3u8", "", ""),
        ("audio-1/index.m3u8", "cmaf", "cmaf"),
        ("audio-255/1-1.m4s", "cmaf", "cmaf"),
        ("snapshot.jpg", "", ""),
    ],
)
def test_a_holder_and_an_edge_count_a_file_alike(path, output, protocol):
    route = ROUTES.find(path)
    assert route is not None
    assert (route.output, route.protocol) == (output, protocol)
    assert viewer_protocol(path, b"") == protocol


@pytest.mark.parametrize("path", ["live.flv", "1-1.m4s", "other.m3u8", "status.json", "index.html", ""])
def test_a_path_without_a_media_file_has_no_route(path):
    assert ROUTES.find(path) is None


@pytest.mark.parametrize(
    ("path", "text", "protocol"),
    [
        ("720p/index.m3u8", TS_LIST, "hls"),
        ("720p/index.m3u8", CMAF_LIST, "cmaf"),
        ("720p/audio/index.m3u8", CMAF_LIST, "cmaf"),
        ("720p/1700000000001.ts", b"", "hls"),
        ("720p/1-1.m4s", b"", "cmaf"),
        ("720p/audio/1-1.m4s", b"", "cmaf"),
    ],
)
def test_a_rung_is_counted_as_the_format_of_its_media(path, text, protocol):
    assert viewer_protocol(path, text) == protocol


def test_media_and_lists_are_distinguished_by_their_suffix():
    assert set(suffixes(CacheClass.MEDIA)) == {".ts", ".m4s", ".mp4", ".vtt"}
    assert set(suffixes(CacheClass.PLAYLIST, CacheClass.MANIFEST)) == {".m3u8", ".mpd"}


def test_formats_agree_on_the_class_of_a_suffix():
    for format in FORMATS:
        assert all(FILES[suffix] is kept for suffix, kept in format.files.items())
    assert not set(HLS.media) & set(CMAF.media)  # a rung's playlist is known by its media


def test_every_address_of_a_format_of_files_is_routed_to_it():
    for format in FORMATS:
        for address in format.addresses if format.files else ():
            route = ROUTES.find(address.path)
            assert route is not None and route.output == format.output
    names = [address.name for address in ADDRESSES]
    assert names == ["flv", "wsflv", "rtmp", "srt", "rtsp", "whep", "hls", "cmaf", "dash", "moq"]


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.output)
def test_a_format_of_files_answers_for_them(format):
    assert (format.load().respond is not None) is bool(format.files)


def test_formats_with_a_port_of_their_own_are_those_that_say_so():
    assert {"rtmp", "srt", "rtsp", "whep", "moq"} == OWN_PORTS


def test_a_format_with_its_own_scheme_has_the_address_of_its_listener(monkeypatch):
    address = PlayAddress("wsunits", "play", "Units", "wss")
    format = PlayFormat(output="units", flag="", addresses=(address,), module="", listener=PlayListener("wss"))
    monkeypatch.setattr(formats, "FORMATS", (format,))
    monkeypatch.setattr(formats, "ADDRESSES", (address,))
    addresses = Addresses("rtmp://a", "http://a", "a", OpenPorts(wss=9))
    assert formats.play_urls(addresses, channel("c1")) == {"wsunits": "wss://a:9/c1/play"}
