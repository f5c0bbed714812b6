"""The sentences for operators: the fault of a stream, and its remedy."""

from collections.abc import Callable
from typing import Any, Final

from gateway.channels.expiry import date_text
from gateway.channels.inputs import InputKind
from gateway.diagnosis.link_rules import multiplier
from gateway.diagnosis.measurement import EARLY_SECONDS
from gateway.diagnosis.rules import DAMAGE_SECONDS, LATENESS_SECONDS, Facts
from gateway.live.unusable_media import unreadable_text


def text_of(code: str, value: float | str, facts: Facts) -> str:
    """Returns the sentence of a fault. value: its size, or its name, see docs/api.md."""
    return _TEXTS[code](value, facts)


def _input_lost(value: float, facts: Facts) -> str:
    input = facts.input
    shown = "the slate" if input.kind is InputKind.SLATE else f"the {input.kind} “{input.name}”"
    what = f"below {input.least_kbps} kbit/s" if input.least_kbps else "gone"
    return f"The main input has been {what} for {value:.0f} s; viewers see {shown}: check the encoder and its uplink."


def _fps_low(value: float, facts: Facts) -> str:
    declared = facts.measurement.declared_fps or value
    return f"{round(value)} of {round(declared)} frames arrive: the encoder or the uplink is too slow."


def _jump(value: float, facts: Facts) -> str:
    where = "back" if value < 0 else "ahead"
    return f"The timestamps jumped {where} by {abs(value):.1f} s: restart the encoder if this happens again."


def _drift(value: float, facts: Facts) -> str:
    return (
        f"Sound runs {abs(value):.0f} ms a second away from the picture: use the same clock for both, "
        "or set the same sample rate in encoder and system."
    )


def _arrivals_late(value: float, facts: Facts) -> str:
    if value > LATENESS_SECONDS:
        return f"Nothing has arrived for {value:.0f} s: check the encoder and its uplink."
    return (
        f"Media fell {value:.1f} s behind in {LATENESS_SECONDS} s: lower the bitrate, "
        "or use a better uplink or a faster encoder preset."
    )


def _latency_low(value: float, facts: Facts) -> str:
    assert facts.link is not None, "the rule has found it"
    ratio, trip = multiplier(facts.link.loss_percent), facts.link.rtt_ms or 0
    latency = facts.link.latency_ms
    return f"Latency {latency} ms is less than {ratio} × the round trip of {trip:.0f} ms: set {value:.0f} ms."


def _gop_long(value: float, facts: Facts) -> str:
    found = f"Key frame every {value:.0f} s" if facts.measurement.last_gop else f"No key frame for {value:.0f} s"
    return f"{found}: set 2 s in OBS, Output, Keyframe Interval."


_TEXTS: Final[dict[str, Callable[[Any, Facts], str]]] = {
    "output_failing": lambda name, facts: f"The output {name} fails: {facts.failing.get(name, '')}",
    "stream_left_out": lambda _, facts: facts.unusable.left_out_text,
    "pictures_unreadable": lambda reason, _: unreadable_text(reason),
    "pixel_format": lambda value, _: (
        f"The pictures have {value}, which most browsers and phones do not play: choose 4:2:0 and 8 bits."
    ),
    "input_lost": _input_lost,
    "video_missing": lambda value, _: f"No picture for {value:.0f} s: check the camera or the scene in the encoder.",
    "picture_black": lambda value, _: f"The picture has been black for {value:.0f} s: check the camera or the scene.",
    "picture_frozen": lambda value, _: f"The picture has not changed for {value:.0f} s: check the camera.",
    "clock_wrong": lambda value, _: f"By the timestamps, {value}: correct the clock of the encoder, or restart it.",
    "arrivals_late": _arrivals_late,
    "arrivals_early": lambda value, _: (
        f"In {EARLY_SECONDS} s, {value:.0f} s of media too much arrived, and viewers cannot follow: "
        "send it in real time (ffmpeg: -re before -i)."
    ),
    "fps_low": _fps_low,
    "link_loss": lambda value, _: (
        f"The link loses {value:.1f} % of the packets, more than its latency can repair: "
        "lower the bitrate, or use a better uplink."
    ),
    "link_latency_low": _latency_low,
    "link_down": lambda value, facts: (
        f"{value:.0f} of {len(facts.link.links) if facts.link is not None else 0} links bring nothing: "
        "check their modems."
    ),
    "media_damaged": lambda value, _: (
        f"In {DAMAGE_SECONDS} s, {value:.0f} of the pictures and pieces of sound came damaged, and pictures stand "
        "still until the next key frame. Packets are lost: use a better link, or a protocol that repeats them (SRT, "
        "RTMP, RTSP by TCP)."
    ),
    "audio_missing": lambda value, _: f"No sound for {value:.0f} s: check the audio source in the encoder.",
    "audio_silent": lambda value, _: (
        f"The sound has been silent for {value:.0f} s: check that the source is not muted."
    ),
    "av_drift": _drift,
    "timestamps_jump": _jump,
    "gop_long": _gop_long,
    "open_gop": lambda value, _: (
        "Players halt at each key frame, or show no picture: switch off open GOP in the encoder (x264: open-gop=0)."
    ),
    "bitrate_high": lambda value, facts: (
        f"The bit rate is {value:.0f} kbit/s, the limit is {facts.rate[1]:.0f}: lower it in the encoder. "
        "A push that stays a tenth above it is ended."
    ),
    "bitrate_unsteady": lambda value, _: (
        f"The bitrate changes by a factor of {value:.0f} again and again: set a constant bitrate (CBR) in the encoder."
    ),
    "captions_late": lambda value, _: (
        f"Speech to text is {value:.0f} s late and skips sound: use a smaller model, or give this machine more cores."
    ),
    "b_frames": lambda value, _: (
        "Browsers cannot show B-frames over WebRTC: set B-frames to 0, or Tune to zerolatency, in the encoder."
    ),
    "hevc": lambda value, _: (
        "The video is HEVC: browsers without HEVC cannot play it by FLV, HLS or DASH. WebRTC viewers get it "
        "transcoded, which costs CPU. Set H.264 in the encoder to reach all viewers."
    ),
    "key_expires": lambda value, _: (
        f"The stream key is refused after {date_text(value)}: set a later expiry, then copy the new key."
    ),
}
