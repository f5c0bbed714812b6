"""Chooses the offered codec for a track that we send, or for a medium that we receive; and the reason if none fits."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.media import av1, codecs, h264, h265
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, MediaTrack
from gateway.protocols.sdp.offer import OfferedCodec, OfferedMedia

# Encoding names of RFC 6184, RFC 7798, the AV1 payload format, RFC 7741, RFC 9628 and RFC 7587.
NAMES: Final = {codec: codec.upper() for codec in (Codec.H264, Codec.H265, Codec.AV1, Codec.VP8, Codec.VP9, Codec.OPUS)}
_SHOWN: Final = {"H264": "H.264", "H265": "H.265", "OPUS": "Opus"}
# Formats that carry no media of their own.
_AUXILIARY: Final = {"RED", "ULPFEC", "FLEXFEC", "FLEXFEC-03", "CN", "TELEPHONE-EVENT"}
_MAX_SHOWN: Final = 12  # names in a reason
_EIGHT_BIT: Final = (66, 77, 100)  # Baseline, Main, High: a decoder of one decodes those before it, except rare tools
_PROFILE_LEVEL_ID = re.compile(r"[0-9A-Fa-f]{6}")
_NO_FIT: Final = 99


def sending_codec(media: OfferedMedia, track: MediaTrack) -> OfferedCodec | None:
    """Returns the offered codec in which the client can receive this track; None if there is none."""
    name = NAMES.get(track.codec)
    ranked = [(_rank(codec, track), codec) for codec in media.codecs if codec.name == name]
    rank, best = min(ranked, key=lambda pair: pair[0], default=(_NO_FIT, None))
    return best if rank < _NO_FIT else None


def receiving_codec(media: OfferedMedia, names: Sequence[str]) -> OfferedCodec | None:
    """Returns the offered codec that we want to receive; None if there is none.

    names: the accepted encoding names, the best first. Of H.264, packetization mode 1 is preferred to mode 0.
    """
    for name in names:
        offered = [codec for codec in media.codecs if codec.name == name and _receivable(codec)]
        if offered:
            return min(offered, key=lambda codec: codec.parameters.get("packetization-mode", "0") != "1")
    return None


def no_codec_to_send(tracks: Iterable[MediaTrack], media: Iterable[OfferedMedia]) -> str:
    """Returns the reason why no track of a stream can be sent to a client."""
    sent, offered = list(tracks), list(media)
    stream = _listed([shown_track(track) for track in sent]) or "no track"
    names = {codec.name for medium in offered for codec in medium.codecs}
    unsuitable = any(NAMES.get(track.codec) in names for track in sent)
    hint = ", with another profile, level or packetization mode" if unsuitable else ""
    return f"no codec in common: the stream has {stream}; the offer has {_offered(offered)}{hint}"


def no_codec_to_receive(names: Sequence[str], media: Iterable[OfferedMedia]) -> str:
    """Returns the reason why no medium of a client can be received. names: the accepted encoding names."""
    accepted = _listed([_SHOWN.get(name, name) for name in names])
    return f"no codec in common: accepted are {accepted}; the offer has {_offered(media)}"


def shown_track(track: MediaTrack) -> str:
    """Returns codec, profile and level of a track for users: "H.264 High 4.0"."""
    name = track.codec.value.upper()
    words = [_SHOWN.get(name, name)]
    profile = codecs.describe(track)["profile"]
    if profile:
        words.append(profile)
    if track.codec is Codec.H264 and profile:
        words.append(f"{int(h264.codec_string(track.config)[-2:], 16) / 10:.1f}")
    return " ".join(words)


def _offered(media: Iterable[OfferedMedia]) -> str:
    names = (codec.name for medium in media for codec in medium.codecs if codec.name not in _AUXILIARY)
    shown = list(dict.fromkeys(_SHOWN.get(name, name) for name in names))
    return _listed([*shown[:_MAX_SHOWN], "others"] if len(shown) > _MAX_SHOWN else shown) or "none"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _receivable(codec: OfferedCodec) -> bool:
    """Whether we can depacketize this codec. Mode 2 of H.264 is interleaved, and nobody sends it."""
    return codec.name != "H264" or codec.parameters.get("packetization-mode", "0") in ("0", "1")


def _rank(codec: OfferedCodec, track: MediaTrack) -> int:
    """Returns how well a codec of the track's name fits: 0 is exact, _NO_FIT is not at all.

    Levels do not count: clients decode what their machine can, whatever level they offer.
    """
    parameters = codec.parameters
    try:
        match track.codec:
            case Codec.H264:
                return _h264_rank(codec, h264.codec_string(track.config)[5:])
            case Codec.H265:  # RFC 7798 §7.1: profile-id is 1 (Main) by default
                profile, offered = h265.parse_hvcc(track.config).profile, parameters.get("profile-id", "1")
                return 1 if (profile, offered) == (1, "2") else _equal_rank(offered, profile)
            case Codec.AV1:  # "RTP Payload Format For AV1" §7.2.1: profile is 0 (Main) by default
                return _equal_rank(parameters.get("profile", "0"), av1.parse_av1c(track.config).profile)
            case Codec.VP9:  # RFC 9628 §6: profile-id is 0 by default
                profile = codecs.vpcc(track).profile if track.config else 0
                return _equal_rank(parameters.get("profile-id", "0"), profile)
            case Codec.OPUS:  # RFC 7587 §7: more channels need another encoding name
                return 0 if codecs.audio_channels(track) <= 2 else _NO_FIT
            case _:
                return 0
    except InvalidData:
        return _NO_FIT


def _equal_rank(offered: str, profile: int) -> int:
    return 0 if offered == str(profile) else _NO_FIT


def _h264_rank(codec: OfferedCodec, stream: str) -> int:
    """Returns a sort key for an offered H.264 format; smaller is better.

    stream: the profile-level-id of the stream: `profile_idc`, constraint flags and `level_idc` in hexadecimal.
    """
    mode, offered = codec.parameters.get("packetization-mode"), codec.parameters.get("profile-level-id")
    if mode is None and offered is None:
        return 6  # GStreamer's webrtcbin declares nothing and decodes all profiles
    if mode != "1":
        return _NO_FIT  # mode 0 has no fragments
    # RFC 6184 §8.1: Baseline, level 1 by default.
    profile, wanted = _h264_profile(offered or "42000a"), _h264_profile(stream)
    if profile == wanted:
        return 0
    if profile[0] not in _EIGHT_BIT or wanted[0] not in _EIGHT_BIT:
        return _NO_FIT
    # Chromium and Firefox decode High, although they often offer no more than Baseline or Main.
    distance = _EIGHT_BIT.index(profile[0]) - _EIGHT_BIT.index(wanted[0])
    return 1 + distance if distance >= 0 else 3 - distance


def _h264_profile(profile_level_id: str) -> tuple[int, bool]:
    """Returns `profile_idc`, and whether it is Constrained Baseline (`constraint_set1_flag`).

    Returns (0, False) for a malformed value.
    """
    if not _PROFILE_LEVEL_ID.fullmatch(profile_level_id):
        return 0, False
    profile = int(profile_level_id[:2], 16)
    return profile, profile == _EIGHT_BIT[0] and bool(int(profile_level_id[2:4], 16) & 0x40)
