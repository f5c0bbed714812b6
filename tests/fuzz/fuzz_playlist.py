"""Playlists and FLV streams of other servers: read, or InvalidData."""

from __future__ import annotations

from contextlib import suppress

from gateway.formats.flv.reader import FlvReader
from gateway.formats.hls.playlist_reader import MediaPlaylist, parse_playlist
from gateway.media.aac import split_adts
from gateway.media.errors import InvalidData
from gateway.media.nal_samples import NalSamples
from gateway.media.track import Codec

SEEDS = [
    b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"9@0\"\n"
    b"#EXTINF:4.0,\n#EXT-X-BYTERANGE:10@9\na.mp4\n#EXT-X-DISCONTINUITY\n#EXTINF:3,\nb.mp4\n#EXT-X-ENDLIST\n",
    b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",DEFAULT=YES,URI="s"\n'
    b'#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=2x3,AUDIO="a"\nv\n',
    b'#EXTM3U\n#EXT-X-STREAM-INF:A=A=",BANDWIDTH=99999999999999999999,RESOLUTION=9999999999x1, X="\nv\n',
    b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\x09\x00\x00\x02\x00\x00\x07\x01\x00\x00\x00ab\x00\x00\x00\x0d",
    b"\xff\xf1\x50\x80\x01\x7f\xfcabc",
    b"\x00\x00\x00\x01\x26\x01abc\x00\x00\x01\x42\x01abc",
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: only the documented errors; numbers of segments grow by one."""
    for text in (data, b"#EXTM3U\n" + data):
        with suppress(InvalidData):
            playlist = parse_playlist(text)
            if isinstance(playlist, MediaPlaylist):
                numbers = [segment.number for segment in playlist.segments]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
            else:
                assert playlist.best in playlist.variants
    with suppress(InvalidData):
        assert sum(len(body) for _, _, body in FlvReader().receive(data)) <= len(data)
    with suppress(InvalidData):
        assert split_adts(data)[1] in (7, 9)
    with suppress(InvalidData):
        NalSamples(Codec.H265, b"").take(data, True)
