"""HLS playlists of other servers."""

import time

import pytest

from gateway.formats.hls.playlist_reader import (
    MAX_SEGMENTS,
    MAX_VARIANTS,
    MediaPlaylist,
    MultivariantPlaylist,
    Range,
    RemoteSegment,
    Resource,
    parse_playlist,
)
from gateway.media.errors import InvalidData


def test_a_live_playlist_is_read() -> None:
    playlist = parse_playlist(
        b"#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:7\r\n#EXTINF:4.004,\r\na.ts\r\n"
        b'#EXT-X-DISCONTINUITY\r\n#EXT-X-PART:DURATION=1,URI="p"\r\n#EXTINF:2,title, more\r\nb.ts?x=1\r\n'
    )
    assert playlist == MediaPlaylist(
        4.0,
        (
            RemoteSegment(7, 4.004, Resource("a.ts"), None, False),
            RemoteSegment(8, 2.0, Resource("b.ts?x=1"), None, True),
        ),
        False,
    )


def test_byte_ranges_without_offset_follow_the_previous_range() -> None:
    playlist = parse_playlist(
        b'#EXTM3U\n#EXT-X-MAP:URI="f.mp4",BYTERANGE="100@0"\n#EXTINF:1,\n#EXT-X-BYTERANGE:50@100\nf.mp4\n'
        b"#EXTINF:1,\n#EXT-X-BYTERANGE:60\nf.mp4\n#EXT-X-ENDLIST\n"
    )
    assert isinstance(playlist, MediaPlaylist)
    assert playlist.ended
    assert [s.media.range for s in playlist.segments] == [Range(100, 50), Range(150, 60)]
    assert {s.start for s in playlist.segments} == {Resource("f.mp4", Range(0, 100))}


def test_a_gap_is_left_out_and_counted() -> None:
    playlist = parse_playlist(
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY\n#EXTINF:1,\n#EXT-X-GAP\na\n#EXTINF:1,\nb\n"
        b"#EXT-X-GAP\n#EXTINF:1,\nc\n#EXTINF:1,\nd\n"
    )
    assert isinstance(playlist, MediaPlaylist)
    assert [(s.number, s.media.uri, s.discontinuity) for s in playlist.segments] == [(8, "b", True), (10, "d", False)]


def test_the_best_variant_has_the_most_pixels_and_its_default_audio() -> None:
    playlist = parse_playlist(
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",URI="x.m3u8"\n'
        b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="y, z",DEFAULT=YES,URI="y.m3u8"\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=640x360,AUDIO="a"\nlow\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=5,RESOLUTION=1920x1080,CODECS="avc1,mp4a",AUDIO="a"\nhigh\n'
    )
    assert isinstance(playlist, MultivariantPlaylist)
    assert (playlist.best.uri, playlist.best.audio) == ("high", "y.m3u8")


@pytest.mark.parametrize("side", ["9" * 4_400, "70000", "-1", "\u0663"])
def test_an_invalid_resolution_counts_as_0_pixels(side: str) -> None:
    variants = f"#EXT-X-STREAM-INF:RESOLUTION={side}x1\na\n#EXT-X-STREAM-INF:RESOLUTION=2x{side}\nb\n"
    playlist = parse_playlist(f"#EXTM3U\n{variants}".encode())
    assert isinstance(playlist, MultivariantPlaylist)
    assert [variant.pixels for variant in playlist.variants] == [0, 0]


def test_numbers_of_variants_may_be_fractions() -> None:
    """Some servers write a BANDWIDTH such as 66406.2, and a RESOLUTION such as 640.0x360.0."""
    playlist = parse_playlist(
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=66406.2,RESOLUTION=640.0x360.0\na\n#EXT-X-STREAM-INF:BANDWIDTH=x\nb\n"
    )
    assert isinstance(playlist, MultivariantPlaylist)
    assert [(variant.bandwidth, variant.pixels) for variant in playlist.variants] == [(66406, 640 * 360), (0, 0)]


@pytest.mark.parametrize("damage", ["", "A=" * 4_000 + '",', '"', 'X="', "x=1,", "=,", " "])
def test_malformed_attributes_are_ignored(damage: str) -> None:
    line = f'#EXT-X-STREAM-INF:BANDWIDTH=7,{damage}RESOLUTION=4x2, AUDIO="a, b"\nv\n'
    sound = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a, b",URI="s"\n'
    playlist = parse_playlist(f"#EXTM3U\n{sound}{line}".encode())
    assert isinstance(playlist, MultivariantPlaylist)
    assert (playlist.best.bandwidth, playlist.best.audio) == (7, "s")


def test_long_malformed_attribute_lists_are_parsed_quickly() -> None:
    """A regular expression search at each character took one second per line."""
    line = b"#EXT-X-STREAM-INF:" + b"A=" * 4_000 + b'"\nv\n'
    began = time.process_time()
    parse_playlist(b"#EXTM3U\n" + line * 100)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"#EXTM3U\n#EXTINF:x,\na\n",
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n",
        b'#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"\n#EXTINF:1,\na\n',
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
        b"#EXTM3U\n" + b"a" * 5_000_000,
        b"#EXTM3U\n#EXTINF:1,\n" + b"a" * 5_000,
        b"#EXTM3U\n" + b"#EXTINF:1,\na\n" * (MAX_SEGMENTS + 1),
        b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\na\n" * (MAX_VARIANTS + 1),
        b"#EXTM3U\n" + b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"\n' * (MAX_VARIANTS + 1),
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:" + b"9" * 4_400 + b"\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:" + b"9" * 4_400 + b"\n",
    ],
)
def test_an_invalid_playlist_raises_invalid_data(text: bytes) -> None:
    with pytest.raises(InvalidData):
        parse_playlist(text)
