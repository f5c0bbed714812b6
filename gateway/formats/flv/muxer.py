"""Writes access units, tracks and script data as FLV tags, or as bare tag bodies for RTMP messages.

`*_tag` functions return whole tags followed by PreviousTagSize. `*_body` functions return the payload of an RTMP
message of the corresponding type. Times are taken modulo 2**32 milliseconds.
"""

import struct
from functools import lru_cache
from typing import Final

from gateway.formats import amf0
from gateway.formats.flv.color_info import color_info
from gateway.formats.flv.tag import AAC, AUDIO, AVC, FOURCC, MAX_BODY, MP3, SCRIPT, VIDEO, VideoPacket
from gateway.formats.script_data import write_timed
from gateway.media.clock import MILLISECONDS
from gateway.media.codecs import describe
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack, TimedData, Tracks

# The tag header has 11 bytes, and the header of the body follows. Both are written together as 32-bit words:
# type|size, time|high time byte, id 0|byte 0, and the other bytes of the header of the body.
_head12 = struct.Struct(">III").pack
_head13 = struct.Struct(">IIIB").pack
_head16 = struct.Struct(">IIII").pack
_head16_fourcc = struct.Struct(">III4s").pack
_head19 = struct.Struct(">III4s3s").pack
_u32 = struct.Struct(">I").pack
_VIDEO, _AUDIO = VIDEO << 24, AUDIO << 24

# A class attribute of an Enum costs more than a global in the hot path.
_VIDEO_KIND = Kind.VIDEO
_H264, _H265, _AAC, _MP3 = Codec.H264, Codec.H265, Codec.AAC, Codec.MP3
_SOUND_AAC = 0xAF  # E.4.2.1: AAC is always marked "44 kHz, 16-bit, stereo"; the config has the real values
_SOUND_MP3 = 0x2F
CLOCK: Final = "onMillraceClock"  # with one number: milliseconds since 1970
# Values of a publisher's onMetaData that are wrong for viewers of a live stream.
_STALE = frozenset(
    {"duration", "filesize", "keyframes", "lasttimestamp", "lastkeyframetimestamp", "lastkeyframelocation"}
)
_STALE_PREFIXES = ("has", "canseek")
_ADDITIONAL_TRACKS = frozenset({"audiotrackidinfomap", "videotrackidinfomap"})  # in lower case
# Names in onMetaData, and those of the same values in `codecs.describe`.
_DESCRIBED = {"width": "width", "height": "height", "audiosamplerate": "sampleRate", "audiochannels": "channels"}


def file_header(has_video: bool, has_audio: bool) -> bytes:
    """Returns the FLV header and PreviousTagSize0, 13 bytes."""
    return b"FLV\x01" + bytes((has_audio << 2 | has_video,)) + b"\0\0\0\x09\0\0\0\0"


def unit_tag(unit: AccessUnit) -> bytes:
    """Returns the tag of one frame: H.264, AAC and MP3 in legacy form, all other codecs in Ex form.

    Raises ValueError for a payload that is too large for a 24-bit size.
    """
    track = unit.track
    payload = unit.payload
    dts, cts = unit.dts, unit.cts
    if track.timescale != MILLISECONDS:
        dts, cts = _milliseconds(unit)
    time = (dts & 0xFFFFFF) << 8 | dts >> 24 & 0xFF
    codec = track.codec
    if track.kind is _VIDEO_KIND:
        if codec is _H264:
            size = len(payload) + 5
            first = (0x10 if unit.key else 0x20) | AVC
            head = _head16(_VIDEO | size, time, first, 1 << 24 | cts & 0xFFFFFF)
        else:
            fourcc = FOURCC[codec]
            first = 0x90 if unit.key else 0xA0
            if codec is _H265 and cts:
                size = len(payload) + 8
                head = _head19(_VIDEO | size, time, first | 1, fourcc, (cts & 0xFFFFFF).to_bytes(3, "big"))
            else:
                size = len(payload) + 5  # CodedFramesX (3) for H.265 is CodedFrames (1) without its cts of 0
                head = _head16_fourcc(_VIDEO | size, time, first | (3 if codec is _H265 else 1), fourcc)
    elif codec is _AAC:
        size = len(payload) + 2
        head = _head13(_AUDIO | size, time, _SOUND_AAC, 1)
    elif codec is _MP3:
        size = len(payload) + 1
        head = _head12(_AUDIO | size, time, _SOUND_MP3)
    else:
        size = len(payload) + 5
        head = _head16_fourcc(_AUDIO | size, time, 0x91, FOURCC[codec])
    if size > MAX_BODY:
        raise ValueError(f"frame of {size} bytes does not fit an FLV tag")
    return b"".join((head, payload, _u32(size + 11)))


def unit_body(unit: AccessUnit) -> bytes:
    """Returns the body of one frame, for an RTMP message of type 9 (video) or 8 (audio)."""
    track = unit.track
    codec = track.codec
    cts = unit.cts if track.timescale == MILLISECONDS else _milliseconds(unit)[1]
    if track.kind is _VIDEO_KIND:
        if codec is _H264:
            first = (0x10 if unit.key else 0x20) | AVC
            return b"".join((((first << 32) | 1 << 24 | cts & 0xFFFFFF).to_bytes(5, "big"), unit.payload))
        first = 0x90 if unit.key else 0xA0
        if codec is not _H265:
            return b"".join((bytes((first | 1,)), FOURCC[codec], unit.payload))
        if not cts:
            return b"".join((bytes((first | 3,)), FOURCC[codec], unit.payload))
        return b"".join((bytes((first | 1,)), FOURCC[codec], (cts & 0xFFFFFF).to_bytes(3, "big"), unit.payload))
    if codec is _AAC:
        return b"\xaf\x01" + unit.payload
    if codec is _MP3:
        return b"\x2f" + unit.payload
    return b"".join((b"\x91", FOURCC[codec], unit.payload))


def additional_body(track_id: int, unit: AccessUnit) -> bytes:
    """Returns the body of one frame of an additional track: Enhanced RTMP multitrack, one track."""
    codec = unit.track.codec
    if unit.track.kind is not _VIDEO_KIND:
        return b"".join((b"\x95\x01", FOURCC[codec], bytes((track_id,)), unit.payload))
    first = b"\x96" if unit.key else b"\xa6"
    if codec is not _H264 and codec is not _H265:
        return b"".join((first, b"\x01", FOURCC[codec], bytes((track_id,)), unit.payload))
    cts = unit.cts if unit.track.timescale == MILLISECONDS else _milliseconds(unit)[1]
    shift = (cts & 0xFFFFFF).to_bytes(3, "big")
    return b"".join((first, b"\x01", FOURCC[codec], bytes((track_id,)), shift, unit.payload))


def additional_track_body(track_id: int, track: MediaTrack) -> bytes:
    """Returns the sequence header of an additional track; empty for codecs without one."""
    config, codec = track.config, track.codec
    if not config:
        return b""
    if codec in (Codec.VP8, Codec.VP9):
        config = b"\x01\0\0\0" + config  # see `track_body`
    first = b"\x96\x00" if track.kind is _VIDEO_KIND else b"\x95\x00"
    return first + FOURCC[codec] + bytes((track_id,)) + config


def unit_time(unit: AccessUnit) -> int:
    """Returns the unit's dts in milliseconds modulo 2**32, as FLV tags and RTMP messages carry it."""
    if unit.track.timescale == MILLISECONDS:
        return unit.dts & 0xFFFFFFFF
    return _milliseconds(unit)[0] & 0xFFFFFFFF


def track_body(track: MediaTrack) -> bytes:
    """Returns the sequence header of a track; empty for codecs without one (MP3, AC-3 …)."""
    codec, config = track.codec, track.config
    if not config:
        return b""
    if track.kind is _VIDEO_KIND:
        if codec is _H264:
            return bytes((0x10 | AVC, 0, 0, 0, 0)) + config
        if codec in (Codec.VP8, Codec.VP9):
            # "Enhanced RTMP (V2)" says `vp9Header = [VPCodecConfigurationRecord]` and refers to the "VP Codec ISO
            # Media File Format Binding", where version and flags belong to the box around the record. In practice
            # they are sent: ffmpeg writes them (libavformat 62, and the capture ffmpeg-9-vp9-ac3). Veovera's own
            # player (e-rtmp-lab/e-flv-js, _parseVp9DecoderConfig) expects them and refuses the 8 bytes without.
            # ffmpeg's demuxer plays both forms; mpegts.js 1.8 has no VP9. So `MediaDemuxer` reads all forms, and
            # this one is written.
            config = b"\x01\0\0\0" + config
        return b"\x90" + FOURCC[codec] + config
    if codec is _AAC:
        return b"\xaf\x00" + config
    return b"\x90" + FOURCC[codec] + config


def sequence_bodies(tracks: Tracks, *, colors: bool = True) -> list[tuple[int, bytes]]:
    """Returns (type, body) of each sequence header, video first, and of the colors that the publisher declares.

    colors: False: for mpegts.js (1.8), which ends at the metadata of a picture.
    """
    bodies = []
    for track in tracks:
        kind = VIDEO if track.kind is _VIDEO_KIND else AUDIO
        bodies.append((kind, track_body(track)))
        if colors and track.codec is not _H264 and (info := color_info(track.colors)):
            bodies.append((kind, bytes((0x90 | VideoPacket.METADATA,)) + FOURCC[track.codec] + info))
    return [(kind, body) for kind, body in bodies if body]


def sequence_headers(tracks: Tracks, timestamp: int, *, colors: bool = True) -> bytes:
    """Returns the tags that a player needs before the first frame, at `timestamp` milliseconds.

    colors: see `sequence_bodies`.
    """
    return b"".join(tag(kind, timestamp, body) for kind, body in sequence_bodies(tracks, colors=colors))


def metadata_body(tracks: Tracks, *, additional: bool = False) -> bytes:
    """Returns onMetaData: the publisher's values without those that are wrong in a live stream.

    additional: whether additional tracks follow; otherwise their descriptions are left out.

    Codec ids are those of the sent tags. Sizes, sample rates and channels are those of the sequence headers, because
    the publisher's values are wrong after a change during the stream, and for a rendition.
    """
    values: dict[str, AmfValue] = amf0.EcmaArray(
        (key, value)
        for key, value in tracks.metadata.items()
        if key.lower() not in _STALE
        and not key.lower().startswith(_STALE_PREFIXES)
        and (additional or key.lower() not in _ADDITIONAL_TRACKS)
    )
    if tracks.video is not None:
        codec = tracks.video.codec
        values["videocodecid"] = float(AVC if codec is _H264 else int.from_bytes(FOURCC[codec], "big"))
    else:
        values.pop("videocodecid", None)
    if tracks.audio is not None:
        codec = tracks.audio.codec
        legacy = {_AAC: AAC, _MP3: MP3}
        values["audiocodecid"] = float(legacy.get(codec) or int.from_bytes(FOURCC[codec], "big"))
    else:
        values.pop("audiocodecid", None)
    for track in tracks:
        described = _described(track)
        if track.kind is _VIDEO_KIND and any(values.get(key) not in (None, described[key]) for key in described):
            for key in [key for key in values if key.lower() in ("displaywidth", "displayheight")]:
                del values[key]
        values.update(described)
        if "stereo" in values and "audiochannels" in described:
            values["stereo"] = described["audiochannels"] == 2
    return amf0.encode("onMetaData", values)


@lru_cache(maxsize=256)
def _described(track: MediaTrack) -> dict[str, float]:
    """Returns the values in the track's configuration, by their names in onMetaData."""
    values = describe(track)
    return {name: float(values[key]) for name, key in _DESCRIBED.items() if values.get(key)}


def metadata_tag(tracks: Tracks, timestamp: int) -> bytes:
    """Returns onMetaData as a script tag; see `metadata_body`."""
    return tag(SCRIPT, timestamp, metadata_body(tracks))


def timed_body(timed: TimedData) -> bytes:
    """Returns script data for an RTMP message of type 18. timed: in milliseconds."""
    name, amf = write_timed(timed)
    return amf0.encode(name) + amf


def timed_tag(timed: TimedData) -> bytes:
    """Returns script data as a script tag."""
    timed = timed.counted(MILLISECONDS)
    return tag(SCRIPT, timed.dts, timed_body(timed))


def clock_tag(timestamp: int, wall: float) -> bytes:
    """Returns script data that says when the media of this timestamp arrived. wall: seconds since 1970.

    Our player pages measure the delay with it. Other players ignore the name.
    """
    return tag(SCRIPT, timestamp, amf0.encode(CLOCK, float(round(wall * 1000))))


def tag(type_id: int, timestamp: int, body: bytes) -> bytes:
    """Returns a body as a tag. Raises ValueError for a body that is too large for a 24-bit size."""
    size = len(body)
    if size > MAX_BODY:
        raise ValueError(f"body of {size} bytes does not fit an FLV tag")
    head = _head12(type_id << 24 | size, (timestamp & 0xFFFFFF) << 8 | timestamp >> 24 & 0xFF, 0)
    return b"".join((head[:11], body, _u32(size + 11)))


def _milliseconds(unit: AccessUnit) -> tuple[int, int]:
    """Returns dts and cts in milliseconds. cts is the difference of the rounded times, so errors do not accumulate."""
    scale = unit.track.timescale
    dts = unit.dts * MILLISECONDS // scale
    return dts, (unit.dts + unit.cts) * MILLISECONDS // scale - dts
