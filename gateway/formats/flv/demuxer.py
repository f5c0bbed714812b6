"""Turns the bodies of RTMP messages and FLV tags into tracks, access units and script data.

Hot path: legacy H.264 and AAC frames and Ex frames (Enhanced RTMP) need a dozen Python operations and one payload copy
each.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace

from gateway.formats import amf0
from gateway.formats.flv import tag
from gateway.formats.flv.color_info import read_color_info
from gateway.formats.flv.tag import AAC, AUDIO_FOURCC, EX_AUDIO, VIDEO_FOURCC, FrameType, VideoPacket
from gateway.media import av1, nal, opus
from gateway.media.aac import adts_config
from gateway.media.clock import MILLISECONDS
from gateway.media.colors import NO_COLORS
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.media.whole_pictures import real_codec, record_of

_KEYS = (FrameType.KEY, FrameType.GENERATED_KEY)
# The first two body bytes of the most common frames (packet type 1, NALU): key frame or not, and the codec.
_LEGACY_FRAMES = {
    bytes((kind << 4 | codec_id, 1)): (kind in _KEYS, codec)
    for kind in (1, 2, 3, 4)
    for codec_id, codec in tag.LEGACY_VIDEO.items()
}
_AAC = Codec.AAC
# Of sound without a header, by the bit of SoundType (E.4.2.1).
_OPUS_HEADS = tuple(opus.head_bytes(opus.OpusHead(channels, 0, opus.RATE, 0, 0, b"")) for channels in (1, 2))
_CODED_AUDIO, _AUDIO_START = tag.AudioPacket.CODED_FRAMES, tag.AudioPacket.SEQUENCE_START
_VIDEO, _AUDIO = Kind.VIDEO, Kind.AUDIO
_TS_SYNC, _TS_PACKET = 0x47, 188
_WITH_CTS = (Codec.H264, Codec.H265)
# Codecs that need a sequence header before their first frame. Frames of the other codecs describe themselves.
_NEEDS_CONFIG = frozenset({Codec.H264, Codec.H265, Codec.AAC, Codec.OPUS, Codec.FLAC})
_SMALLEST_CONFIG = {Codec.H264: 7, Codec.H265: 23, Codec.AV1: 4, Codec.VP8: 8, Codec.VP9: 8, Codec.AAC: 2}


def track_number(kind: Kind, track_id: int) -> int:
    """Returns one number for kind and id: twice the id for video, one more for audio."""
    return 2 * track_id + (kind is Kind.AUDIO)


class MediaDemuxer:
    """Demuxes the audio and video bodies of one publisher. It stores only the current tracks.

    converts: whether the caller converts sound that no track can have. Then `foreign` describes the default sound, if
    it is such sound, and the codec of its track does not count.

    `video_track` and `audio_track` are the default tracks (id 0). `others` has a demuxer for each additional track, by
    `track_number`. Each kind has at most MAX_TRACKS tracks.

    `read_video` and `read_audio` read a body and return
    - `MediaTrack` if a sequence header or the metadata of its colors set or changed the track (None for an identical
    repetition),
    - `AccessUnit` for a frame: `dts` is the parameter, `cts` signed milliseconds, `track` the current track,
    - `TrackStart` for the first frame of a codec without sequence header, or of an encoder that sends none but writes
      parameter sets or ADTS headers into its frames,
    - `Unsupported` once for each unsupported case,
    - a list of track ids, each with one of the values above, for a multitrack body with additional tracks,
    - None for bodies without picture or sound: end of sequence, commands, empty bodies, and frames before their
    sequence header (counted in `dropped`).
    They raise InvalidData for a body that violates its specification. Afterwards, the demuxer is still usable.
    dts: milliseconds. The caller unwraps 32-bit timestamps. wall: arrival time, seconds since 1970.
    """

    __slots__ = (
        "_colors",
        "_converts",
        "_has_opus_types",
        "_hides_h265",
        "_refused",
        "audio_track",
        "dropped",
        "foreign",
        "headless",
        "others",
        "video_track",
    )

    def __init__(self, *, converts: bool = False) -> None:
        self._converts = converts
        self._colors = NO_COLORS  # that the encoder declares
        self.foreign: ForeignSound | None = None
        self.video_track: MediaTrack | None = None
        self.audio_track: MediaTrack | None = None
        self.others: dict[int, MediaDemuxer] = {}
        self._refused: set[tuple[Kind, str]] = set()
        self.dropped: Counter[Kind] = Counter()
        self.headless: Codec | None = None  # of the sound in `dropped`
        self._hides_h265 = False  # the encoder marks H.265 as H.264
        self._has_opus_types = False  # legacy Opus has packet types

    # Hot

    def read_video(self, dts: int, body: bytes, wall: float = 0.0) -> tag.Demuxed:
        """Reads one video body; see the class. Hot path."""
        frame = _LEGACY_FRAMES.get(body[:2])
        if frame is not None:
            key, codec = frame
            track = self.video_track
            if track is not None and track.codec is codec and len(body) > 5:
                return AccessUnit(track, dts, int.from_bytes(body[2:5], "big", signed=True), key, wall, body[5:])
        if not body:
            return None
        if body[0] & 0x80:
            return self._ex_video(dts, body, wall)
        return self._legacy_video(dts, body, wall)

    def read_audio(self, dts: int, body: bytes, wall: float = 0.0) -> tag.Demuxed:
        """Reads one audio body; see the class. Hot path."""
        track = self.audio_track
        if track is not None and track.codec is _AAC and len(body) > 2 and body[0] >> 4 == AAC and body[1] == 1:
            return AccessUnit(track, dts, 0, True, wall, body[2:])
        if not body:
            return None
        sound = body[0] >> 4
        if sound == EX_AUDIO:
            return self._ex_audio(dts, body, wall)
        return self._legacy_audio(sound, dts, body, wall)

    # Legacy bodies

    def _legacy_video(self, dts: int, body: bytes, wall: float) -> tag.Demuxed:
        codec_id = body[0] & 15
        if body[0] >> 4 == FrameType.COMMAND:
            return None
        codec = tag.LEGACY_VIDEO.get(codec_id)
        if codec is None:
            return self._refuse(Kind.VIDEO, tag.VIDEO_CODEC_NAMES.get(codec_id, f"video codec id {codec_id}"))
        if len(body) < 5:
            raise InvalidData(f"video body of {len(body)} bytes")
        packet = body[1]  # E.4.3.2: 0 = sequence header, 1 = NALU, 2 = end of sequence
        if packet == 0:
            config = body[5:]
            if codec is Codec.H264 and real_codec(config) is Codec.H265:
                self._hides_h265, codec = True, Codec.H265
            return self._take_config(_VIDEO, codec, config)
        if packet > 2:
            of_ts = body[0] == _TS_SYNC and len(body) % _TS_PACKET == 0
            raise InvalidData("they are packets of MPEG-TS" if of_ts else f"video packets have the type {packet}")
        if packet != 1 or len(body) <= 5:
            return None
        cts, key = int.from_bytes(body[2:5], "big", signed=True), body[0] >> 4 in _KEYS
        if self._hides_h265 and (track := self.video_track) is not None:
            return AccessUnit(track, dts, cts, key, wall, body[5:])
        return self._start(_VIDEO, codec, (dts, cts, key, wall, body[5:]))

    def _start(
        self, kind: Kind, codec: Codec, unit: tuple[int, int, bool, float, bytes], config: bytes = b""
    ) -> tag.TrackStart | None:
        """Begins a track that has no sequence header, with the configuration in its frame if the codec needs one.

        unit: all fields of the frame's unit but its track. config: of a track whose frames have none.
        """
        *_, key, _, payload = unit
        if codec in _NEEDS_CONFIG and not config:
            config = record_of(codec, payload) if codec in _WITH_CTS else adts_config(payload) if codec is _AAC else b""
        elif codec is Codec.AV1 and key:
            with suppress(InvalidData):
                config = av1.record_in(payload)
        if not config and (codec in _NEEDS_CONFIG or not key):
            self.dropped[kind] += 1
            self.headless = codec if kind is _AUDIO else self.headless
            return None
        track = MediaTrack(kind, codec, MILLISECONDS, config, self._colors if kind is _VIDEO else NO_COLORS)
        if kind is _VIDEO:
            self.video_track = track
        else:
            self.audio_track, self.foreign = track, None
        return tag.TrackStart(track, AccessUnit(track, *unit))

    def _legacy_audio(self, sound: int, dts: int, body: bytes, wall: float) -> tag.Demuxed:
        if sound == AAC:
            if len(body) < 2:
                raise InvalidData("AAC body of one byte")
            if body[1] == 0:
                return self._take_config(_AUDIO, Codec.AAC, body[2:])
            if body[1] == 1:
                return self._audio_frame(_AAC, dts, body[2:], wall)
            if len(body) > 2:
                self.dropped[_AUDIO] += 1
                self.headless = _AAC
            return None
        if sound in (tag.MP3, tag.MP3_8K):
            return self._audio_frame(Codec.MP3, dts, body[1:], wall)
        if sound == tag.OPUS:
            return self._legacy_opus(dts, body, wall)
        if self._converts and sound in tag.SOUND_DECODERS:
            return self._foreign_frame(sound, dts, body, wall)
        return self._refuse(Kind.AUDIO, tag.SOUND_FORMAT_NAMES.get(sound, f"sound format {sound}"))

    def _legacy_opus(self, dts: int, body: bytes, wall: float) -> tag.TrackMedia | None:
        """Reads Opus in two forms: media-server writes a header and packet types, ZLMediaKit writes neither."""
        if body[1:].startswith(b"\0OpusHead"):
            self._has_opus_types = True
            return self._take_config(_AUDIO, Codec.OPUS, body[2:])
        if self._has_opus_types:
            return self._audio_frame(Codec.OPUS, dts, body[2:] if body[1:2] == b"\1" else b"", wall)
        return self._audio_frame(Codec.OPUS, dts, body[1:], wall, _OPUS_HEADS[body[0] & 1])

    def _foreign_frame(self, sound: int, dts: int, body: bytes, wall: float) -> tag.TrackMedia | None:
        """Reads a frame of sound that no track can have; its track has the first byte of the body, E.4.2.1."""
        if len(body) < 2:
            return None
        track = MediaTrack(_AUDIO, Codec.MP3, MILLISECONDS, body[:1])
        unit = AccessUnit(track, dts, 0, True, wall, body[1:])
        if track == self.audio_track and self.foreign is not None:
            return unit
        rate = tag.FIXED_RATES.get(sound, tag.SOUND_RATES[body[0] >> 2 & 3])
        self.audio_track = track
        self.foreign = ForeignSound(tag.SOUND_DECODERS[sound][body[0] >> 1 & 1], rate, 1 + (body[0] & 1))
        return tag.TrackStart(track, unit)

    # Ex bodies: "Enhanced RTMP (V2)", ExVideoTagHeader and ExAudioTagHeader

    def _ex_video(self, dts: int, body: bytes, wall: float) -> tag.Demuxed:
        frame_type = body[0] >> 4 & 7
        packet = body[0] & 15
        position = 1
        if packet == VideoPacket.MOD_EX:
            packet, position = _skip_mod_ex(body, VideoPacket.MOD_EX)
        if frame_type == FrameType.COMMAND and packet != VideoPacket.METADATA:
            return None
        if packet == VideoPacket.MULTITRACK:
            return self._multitrack(Kind.VIDEO, dts, body, position, wall)
        fourcc = body[position : position + 4]
        return self._video_packet(packet, fourcc, dts, body, position + 4, len(body), wall)

    def _video_packet(
        self, packet: int, fourcc: bytes, dts: int, body: bytes, position: int, end: int, wall: float
    ) -> tag.TrackMedia | None:
        """Reads one track's data, from `position` to `end`. Hot path."""
        codec = VIDEO_FOURCC.get(fourcc)
        if codec is None:
            return self._unknown_fourcc(Kind.VIDEO, fourcc)
        if packet == VideoPacket.CODED_FRAMES or packet == VideoPacket.CODED_FRAMES_X:
            frame_type, cts = body[0] >> 4 & 7, 0
            if packet == VideoPacket.CODED_FRAMES and codec in _WITH_CTS:
                cts = int.from_bytes(body[position : position + 3], "big", signed=True)
                position += 3
            if end <= position:
                return None
            key = frame_type in _KEYS
            track = self.video_track
            if track is not None and track.codec is codec:
                return AccessUnit(track, dts, cts, key, wall, body[position:end])
            return self._start(_VIDEO, codec, (dts, cts, key, wall, body[position:end]))
        if packet == VideoPacket.SEQUENCE_START:
            return self._take_config(_VIDEO, codec, body[position:end])
        if packet == VideoPacket.MPEG2TS_SEQUENCE_START:
            return self._refuse(Kind.VIDEO, "MPEG-2 TS sequence start")
        if packet == VideoPacket.METADATA and (colors := read_color_info(body[position:end])) is not None:
            self._colors = colors
            if (track := self.video_track) is not None and track.codec is codec and track.colors != colors:
                self.video_track = replace(track, colors=colors)
                return self.video_track
        return None  # end of sequence

    def _ex_audio(self, dts: int, body: bytes, wall: float) -> tag.Demuxed:
        packet = body[0] & 15
        position = 1
        if packet == tag.AudioPacket.MOD_EX:
            packet, position = _skip_mod_ex(body, tag.AudioPacket.MOD_EX)
        if packet == tag.AudioPacket.MULTITRACK:
            return self._multitrack(Kind.AUDIO, dts, body, position, wall)
        fourcc = body[position : position + 4]
        return self._audio_packet(packet, fourcc, dts, body, position + 4, len(body), wall)

    def _audio_packet(
        self, packet: int, fourcc: bytes, dts: int, body: bytes, position: int, end: int, wall: float
    ) -> tag.TrackMedia | None:
        """Reads one track's data, from `position` to `end`. Hot path."""
        codec = AUDIO_FOURCC.get(fourcc)
        if codec is None:
            return self._unknown_fourcc(Kind.AUDIO, fourcc)
        if packet == _CODED_AUDIO:
            return self._audio_frame(codec, dts, body[position:end], wall)
        if packet == _AUDIO_START:
            return self._take_config(_AUDIO, codec, body[position:end])
        return None  # end of sequence; the codecs' headers also contain the channel order (MultichannelConfig)

    # Multitrack bodies

    def _multitrack(self, kind: Kind, dts: int, body: bytes, position: int, wall: float) -> tag.Demuxed:
        """Reads the tracks of a body, each with its own demuxer. Hot path. Raises InvalidData for the whole body."""
        if len(body) > position + 5 and not body[position] >> 4 and (track_id := body[position + 5]):
            other = self.others.get(2 * track_id + (kind is _AUDIO))
            if other is not None:  # the usual case: one track, which is known
                packet, fourcc = body[position] & 15, body[position + 1 : position + 5]
                read = other._video_packet if kind is _VIDEO else other._audio_packet
                item = read(packet, fourcc, dts, body, position + 6, len(body), wall)
                return [(track_id, item)] if item is not None else None
        packet, tracks = _split_tracks(body, position)
        media: list[tuple[int, tag.TrackMedia]] = []
        for track_id, fourcc, start, end in tracks:
            demuxer = self if not track_id else self._other(kind, track_id)
            if demuxer is None:
                item = self._refuse(kind, f"more than {tag.MAX_TRACKS} {kind} tracks")
            else:
                read = demuxer._video_packet if kind is _VIDEO else demuxer._audio_packet
                item = read(packet, fourcc, dts, body, start, end, wall)
            if not track_id and len(tracks) == 1:
                return item
            if item is not None:
                media.append((track_id, item))
        return media or None

    def _other(self, kind: Kind, track_id: int) -> MediaDemuxer | None:
        """Returns the demuxer of an additional track; None if the kind has MAX_TRACKS tracks already."""
        number = track_number(kind, track_id)
        demuxer = self.others.get(number)
        if demuxer is not None:
            return demuxer
        if sum(other % 2 == number % 2 for other in self.others) >= tag.MAX_TRACKS - 1:
            return None
        demuxer = self.others[number] = MediaDemuxer()
        demuxer._refused = self._refused
        return demuxer

    # Legacy and Ex bodies

    def _take_config(self, kind: Kind, codec: Codec, config: bytes) -> MediaTrack | None:
        """Returns the track of a sequence header; None if the track does not change.

        Raises InvalidData for a configuration that is too short: it would make every consumer fail. The codec parsers
        check its fields.
        """
        if codec in (Codec.VP8, Codec.VP9):
            config = _vp_record(config)
        elif codec in _WITH_CTS and config.startswith((nal.START_CODE, nal.START_CODE[1:])):
            record = record_of(codec, config)  # the parameter sets with start codes instead of a record
            if not record and codec is Codec.H264 and (record := record_of(Codec.H265, config)):
                self._hides_h265, codec = True, Codec.H265
            config = record
        if not config and (kind is _VIDEO or codec in _NEEDS_CONFIG):
            return None  # ffmpeg 9 begins AV1 with an empty header, and sends the record with the first frame
        if len(config) < _SMALLEST_CONFIG.get(codec, 0):
            raise InvalidData(f"{codec} sequence header of {len(config)} bytes")
        track = MediaTrack(kind, codec, MILLISECONDS, config, self._colors if kind is _VIDEO else NO_COLORS)
        if track == (self.video_track if kind is _VIDEO else self.audio_track):
            return None
        if kind is _VIDEO:
            self.video_track = track
        else:
            self.audio_track, self.foreign = track, None
        return track

    def _audio_frame(
        self, codec: Codec, dts: int, payload: bytes, wall: float, config: bytes = b""
    ) -> tag.TrackMedia | None:
        if not payload:
            return None
        track = self.audio_track
        if track is not None and track.codec is codec and self.foreign is None:
            return AccessUnit(track, dts, 0, True, wall, payload)
        return self._start(_AUDIO, codec, (dts, 0, True, wall, payload), config)

    def _unknown_fourcc(self, kind: Kind, fourcc: bytes) -> tag.Unsupported | None:
        if len(fourcc) < 4:
            raise InvalidData(f"{kind} body ends inside its FourCC")
        return self._refuse(kind, f"FourCC {fourcc.decode('ascii', 'backslashreplace')!r}")

    def _refuse(self, kind: Kind, what: str) -> tag.Unsupported | None:
        if (kind, what) in self._refused or len(self._refused) >= 32:
            return None
        self._refused.add((kind, what))
        return tag.Unsupported(kind, what)


def _vp_record(config: bytes) -> bytes:
    """Returns the VPCodecConfigurationRecord without leading bytes of encoders; see `muxer.track_body`."""
    if len(config) == 12 and config[:4] == b"\x01\0\0\0":
        return config[4:]  # the vpcC box's version and flags
    if len(config) == 9 and config[0] == 1:
        return config[1:]  # only the version
    return config


def _skip_mod_ex(body: bytes, mod_ex: int) -> tuple[int, int]:
    """Skips the ModEx prefixes. Returns the packet type after them and the position of its data.

    Their nanosecond offset is ignored: it is finer than the gateway's clock.
    """
    position, end = 1, len(body)
    packet = mod_ex
    while packet == mod_ex:
        if position + 3 > end:
            raise InvalidData("body ends inside a ModEx prefix")
        size = body[position] + 1  # "modExDataSize = UI8 + 1"
        position += 1
        if size == 256:  # "If maximum 8-bit size is not sufficient, use 16-bit value": UI16 + 1
            size = int.from_bytes(body[position : position + 2], "big") + 1
            position += 2
        position += size
        if position >= end:
            raise InvalidData("body ends inside a ModEx prefix")
        packet = body[position] & 15
        position += 1
    return packet, position


def _split_tracks(body: bytes, position: int) -> tuple[int, list[tuple[int, bytes, int, int]]]:
    """Returns the packet type of a multitrack body, and id, FourCC, start and end of each track's data.

    position: of the multitrack type. Raises InvalidData.
    """
    end = len(body)
    if position >= end:
        raise InvalidData("body ends inside its multitrack header")
    kind, packet = body[position] >> 4, body[position] & 15
    position += 1
    fourcc = b""
    if kind != tag.Multitrack.MANY_TRACKS_MANY_CODECS:
        fourcc = body[position : position + 4]
        position += 4
    if kind == tag.Multitrack.ONE_TRACK:
        if position >= end:
            raise InvalidData("body ends inside its multitrack header")
        return packet, [(body[position], fourcc, position + 1, end)]
    if kind > tag.Multitrack.MANY_TRACKS_MANY_CODECS:
        raise InvalidData(f"multitrack type {kind}")
    tracks: list[tuple[int, bytes, int, int]] = []
    while position < end:
        if kind == tag.Multitrack.MANY_TRACKS_MANY_CODECS:
            fourcc = body[position : position + 4]
            position += 4
        start = position + 4  # after the id and the size of 24 bits
        if start > end:
            raise InvalidData("body ends inside the header of a track")
        stop = start + int.from_bytes(body[position + 1 : start], "big")
        if stop > end:
            raise InvalidData("body ends inside a track")
        if len(tracks) == 2 * tag.MAX_TRACKS:
            raise InvalidData(f"body of more than {2 * tag.MAX_TRACKS} tracks")
        tracks.append((body[position], fourcc, start, stop))
        position = stop
    return packet, tracks


def parse_script(timestamp: int, body: bytes) -> tag.ScriptTag:
    """Reads the body of a script tag or an RTMP data message; unwraps `@setDataFrame`. Raises InvalidData."""
    name, position = amf0.read(body)
    if name == "@setDataFrame":
        name, position = amf0.read(body, position)
    if not isinstance(name, str):
        raise InvalidData("script data without a name")
    rest = body[position:]
    return tag.ScriptTag(timestamp, name, tuple(amf0.decode(rest)), rest)
