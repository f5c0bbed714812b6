"""The configuration of OBS "Multitrack Video": the encoders that OBS starts, and where OBS sends their tracks.

OBS defines its JSON form (frontend/utility/models/multitrack-video.hpp). OBS requests the configuration by
`GetClientConfiguration`, or reads the same JSON from its field "Config Override (JSON)".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_VIDEO_TRACKS: Final = 4
KEY_FRAME_SECONDS: Final = 2
MAX_SIDE: Final = 8_192
MAX_FPS: Final = 240
_SCHEMA: Final = "2025-01-25"
_SMALLEST: Final = 64  # pixels of a side
_LOW_FPS: Final = 30.0  # the lower half of the ladder has at most this rate
_AUDIO_KBIT: Final = 160
# Height of the shorter side, and kbit/s of the video at up to 30 frames a second. More frames need 1.5 times the
# bitrate.
_BITRATES: Final = ((2160, 12_000), (1440, 8_000), (1080, 4_500), (720, 2_500), (480, 1_200), (360, 700), (240, 400))
_NVIDIA, _AMD, _INTEL = 0x10DE, 0x1002, 0x8086  # PCI ids of vendors
# Encoders of OBS by name, with the settings that turn off B-frames: viewers with WebRTC cannot show them.
_ENCODERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "x264": ("obs_x264", {"preset": "veryfast", "x264opts": "bframes=0 scenecut=0"}),
    "nvenc": ("obs_nvenc_h264_tex", {"preset": "p4", "bf": 0, "lookahead": False, "adaptive_quantization": True}),
    "amf": ("h264_texture_amf", {"preset": "balanced", "bf": 0}),
    "qsv": ("obs_qsv11_v2", {"target_usage": "TU4", "bframes": 0}),
    "videotoolbox": ("com.apple.videotoolbox.videoencoder.ave.avc", {"bframes": False}),
}
ENCODERS: Final = tuple(_ENCODERS)
_RATE_CONTROL: Final = {"rate_control": "CBR", "keyint_sec": KEY_FRAME_SECONDS, "profile": "high"}
_COLOR: Final = {"colorspace": "VIDEO_CS_709", "range": "VIDEO_RANGE_PARTIAL", "format": "VIDEO_FORMAT_NV12"}
_PICTURE: Final = {"gpu_scale_type": "OBS_SCALE_BICUBIC", **_COLOR}


@dataclass(frozen=True, slots=True)
class Canvas:
    """The canvas of OBS. width, height: pixels. numerator, denominator: frames a second as a fraction."""

    width: int = 1920
    height: int = 1080
    numerator: int = 30
    denominator: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for a size or rate that no encoder makes."""
        if not (_SMALLEST <= self.width <= MAX_SIDE and _SMALLEST <= self.height <= MAX_SIDE):
            raise ValueError(f"expected a size from {_SMALLEST}x{_SMALLEST} to {MAX_SIDE}x{MAX_SIDE}")
        if not (0 < self.numerator <= 1_000_000 and 0 < self.denominator <= 1_000_000 and 1 <= self.fps <= MAX_FPS):
            raise ValueError(f"expected 1 to {MAX_FPS} frames a second")

    @property
    def fps(self) -> float:
        return self.numerator / self.denominator


@dataclass(frozen=True, slots=True)
class EncoderLimits:
    """The limits of the streamer's computer. encoder: a name of ENCODERS.

    rungs: the largest number of video tracks. bitrate: kbit/s of all video tracks together; 0: no limit.
    """

    encoder: str = "x264"
    rungs: int = MAX_VIDEO_TRACKS
    bitrate: int = 0


@dataclass(frozen=True, slots=True)
class ObsTrack:
    """One video track. width, height: pixels. kbit: kbit/s. halved: whether it has every second frame."""

    width: int
    height: int
    kbit: int
    halved: bool


def make_ladder(canvas: Canvas, limits: EncoderLimits) -> list[ObsTrack]:
    """Returns 1 to MAX_VIDEO_TRACKS video tracks, the largest first. The first has the canvas's size."""
    short = min(canvas.width, canvas.height)
    sizes = [short, *(height for height, _ in _BITRATES if height <= short * 0.85)]
    tracks: list[ObsTrack] = []
    left = limits.bitrate or 1_000_000
    for side in sizes[: max(1, min(limits.rungs, MAX_VIDEO_TRACKS))]:
        halved = canvas.fps > _LOW_FPS and side < 720 and side < short
        fast = canvas.fps > _LOW_FPS and not halved
        kbit = round(next((k for height, k in _BITRATES if height <= side), 300) * (1.5 if fast else 1.0))
        if not tracks:
            kbit = min(kbit, left)
        elif kbit > left:
            break
        left -= kbit
        tracks.append(ObsTrack(_even(canvas.width * side / short), _even(canvas.height * side / short), kbit, halved))
    return tracks


def _even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)


def make_configuration(canvas: Canvas, limits: EncoderLimits, server: str, stream_key: str) -> dict[str, Any]:
    """Returns the configuration. server: rtmp:// or rtmps:// address with the app. stream_key: as in OBS."""
    kind, options = _ENCODERS[limits.encoder]
    encoders = [
        {
            "type": kind,
            "width": track.width,
            "height": track.height,
            "framerate": {"numerator": canvas.numerator, "denominator": canvas.denominator * (1 + track.halved)},
            **_PICTURE,
            "settings": {"bitrate": track.kbit, **_RATE_CONTROL, **options},
            "canvas_index": 0,
        }
        for track in make_ladder(canvas, limits)
    ]
    protocol = server.partition("://")[0].upper()
    audio = {"codec": "aac", "track_id": 1, "channels": 2, "settings": {"bitrate": _AUDIO_KBIT}}
    config_id = hashlib.sha256(repr((canvas, limits)).encode()).hexdigest()[:16]
    return {
        "meta": {"service": "Millrace", "schema_version": _SCHEMA, "config_id": config_id},
        "status": {"result": "success", "html_en_us": None},
        "ingest_endpoints": [
            {"protocol": protocol, "url_template": f"{server}/{{stream_key}}", "authentication": stream_key}
        ],
        "encoder_configurations": encoders,
        "audio_configurations": {"live": [audio]},
    }


def read_client_request(body: Mapping[str, Any]) -> tuple[Canvas, EncoderLimits]:
    """Reads the canvas and the limits of the computer from a request of OBS. Raises ValueError for a bad canvas.

    A value that is missing or has another form counts as not sent.
    """
    preferences = _object(body, "preferences")
    canvases = preferences.get("canvases")
    first = canvases[0] if isinstance(canvases, list) and canvases and isinstance(canvases[0], dict) else {}
    rate = _object(first, "framerate")
    width, height = _whole(first, "width", 1920), _whole(first, "height", 1080)
    canvas = Canvas(width, height, _whole(rate, "numerator", 30), _whole(rate, "denominator", 1))
    capabilities = _object(body, "capabilities")
    encoder, most = _encoder(capabilities)
    wanted = _whole(preferences, "maximum_video_tracks", MAX_VIDEO_TRACKS)
    bitrate = _whole(preferences, "maximum_aggregate_bitrate", 0)
    return canvas, EncoderLimits(encoder, max(1, min(most, wanted)), max(0, min(bitrate, 1_000_000)))


def _encoder(capabilities: Mapping[str, Any]) -> tuple[str, int]:
    """Returns the encoder and the number of tracks that this computer can encode."""
    system = str(_object(capabilities, "system").get("name", "")).lower()
    gpus = capabilities.get("gpu")
    known = gpus[:16] if isinstance(gpus, list) else []
    vendors = {_whole(gpu, "vendor_id", 0) for gpu in known if isinstance(gpu, dict)}
    if _NVIDIA in vendors:
        return "nvenc", MAX_VIDEO_TRACKS
    if "windows" in system and _AMD in vendors:
        return "amf", 3
    if "windows" in system and _INTEL in vendors:
        return "qsv", 3
    if "mac" in system or "darwin" in system:
        return "videotoolbox", 3
    cores = _whole(_object(capabilities, "cpu"), "logical_cores", 4)
    return "x264", 4 if cores >= 24 else 3 if cores >= 16 else 2 if cores >= 8 else 1


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else default
