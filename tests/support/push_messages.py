"""Messages that a page sends with `millrace.frames.v1`."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from gateway.media.track import Kind
from gateway.protocols.push import Chunk, Configured

_HEADER = struct.Struct(">BqI")
_NUMBERS = {Kind.VIDEO: 1, Kind.AUDIO: 2}
_KEY = 0x80


def config_text(configured: Configured) -> str:
    """Returns the text message of a configuration."""
    video, audio = configured.video, configured.audio
    return _json(
        type="config",
        video=video
        and {
            "codec": video.codec,
            "width": video.width,
            "height": video.height,
            "framerate": video.framerate,
            "description": base64.b64encode(video.description).decode(),
        },
        audio=audio
        and {
            "codec": audio.codec,
            "sampleRate": audio.rate,
            "numberOfChannels": audio.channels,
            "description": base64.b64encode(audio.description).decode() if audio.description else None,
        },
    )


def chunk_bytes(chunk: Chunk) -> bytes:
    """Returns the binary message of a frame. Raises ValueError if its times do not fit 64 and 32 bits."""
    try:
        header = _HEADER.pack(_NUMBERS[chunk.kind] | (_KEY if chunk.key else 0), chunk.pts, chunk.duration)
    except struct.error as error:
        raise ValueError(f"a frame at {chunk.pts} of {chunk.duration} µs: {error}") from None
    return header + chunk.payload


def end_text() -> str:
    """Returns the text message that ends a push."""
    return _json(type="end")


def _json(**said: Any) -> str:
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False)
