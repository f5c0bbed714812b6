"""Any units through both packagers: documented exceptions only, bounded memory, playlists that keep the rules."""

from __future__ import annotations

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.segment_window import MAX_BYTES
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import AUDIO, VIDEO
from tests.support.hls_rules import check, parse

_TRACKS = (
    VIDEO,
    AUDIO,
    MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"\x01d"),
    MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b""),
    MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b""),
    MediaTrack(Kind.VIDEO, Codec.VP9, 1000, b""),
)


def seeds() -> list[bytes]:
    """Regular pictures and sounds, pictures only, a change of tracks in between, time that goes back."""
    picture, key, sound = b"\x41\x28\x40\x20", b"\x45\x28\x40\x40", b"\x40\x17\x40\x08"
    group = key + (picture + sound) * 25
    change, back = b"\xc0\xff\x02\x00", b"\x25\xf0\x40\x20"
    return [group * 3, (key + picture * 30) * 3, sound * 120, group + change + group, group + back + group]


def fuzz(data: bytes) -> None:
    """Four bytes describe a unit: kind, step in time, composition offset, length and first byte."""
    packagers = (
        TsPackager("f", SegmentPlan(1.0, 3), 1.7e9),
        CmafPackager("f", SegmentPlan(1.0, 3, 0.2), 1.7e9, SequenceNumbers(prefix=int(1.7e9))),
    )
    for packager in packagers:
        try:
            _play(packager, data)
        except InvalidData:
            continue
        assert packager.broken <= len(data)
        if isinstance(packager, TsPackager):
            if packager.ready:
                check(parse(media_playlist.with_suffix(packager.playlist()).decode()))
                assert packager.window.bytes <= MAX_BYTES
        elif packager.ready:
            for lane in packager.manifests.tracks:
                # Frames without a rate may make parts shorter than the draft wants; all else must hold.
                parse(media_playlist.with_suffix(packager.manifests.playlist(lane)).decode())
                assert lane.window.bytes <= MAX_BYTES
            assert packager.manifests.is_playable()  # what has ended is complete
            mpd.finish(packager.manifests.manifest())
            packager.manifests.master()


def _play(packager: TsPackager | CmafPackager, data: bytes) -> None:
    epoch = 0
    video, audio = VIDEO, AUDIO
    packager.take_tracks(Tracks(video, audio, epoch))
    dts = 0
    for at in range(0, len(data) - 3, 4):
        what, step, shift, shape = data[at : at + 4]
        dts += step if what & 64 else -(step >> 2) if what & 32 else step << 4
        dts = max(dts, 0)
        if what & 128 and step > 250:
            epoch += 1
            track = _TRACKS[shift % len(_TRACKS)]
            video, audio = (track, audio) if track.kind is Kind.VIDEO else (video, track)
            packager.take_tracks(Tracks(video, audio, epoch))
            continue
        track = video if what & 1 else audio
        payload = (4 + shape).to_bytes(4, "big") + b"\x65" + bytes([shape]) * (3 + shape)
        if what & 2:
            payload = payload[: shape >> 4]
        packager.take(AccessUnit(track, dts, shift - 64, bool(what & 4) or track is audio, 1.7e9 + dts / 1000, payload))
        if at & 60 == 0 and isinstance(packager, CmafPackager) and packager.ready:  # each 16th: manifests are long
            packager.manifests.manifest()
    packager.ended = True
    packager.finish()
