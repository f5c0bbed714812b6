"""Frames pushed by pages: events, or RemoteProtocolError; written frames are read again as the same."""

from __future__ import annotations

from gateway.media.track import Kind
from gateway.protocols import push, push_original
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.push import AudioConfig, Chunk, Configured, FramesConnection, PushEnded, PushState, VideoConfig
from tests.support.push_messages import chunk_bytes, config_text, end_text

_CONFIG = Configured(VideoConfig("avc1.42E01F", b"\1\x42\xe0\x1f", 1280, 720, 30.0), AudioConfig("opus", 48000, 2))
_PICTURE = chunk_bytes(Chunk(Kind.VIDEO, True, -5, 33_333, b"\0\0\0\2e1\0\0\0\1f"))
_SOUND = chunk_bytes(Chunk(Kind.AUDIO, True, 2**62, 20_000, b"\xfc\xff\xfe"))

SEEDS = (
    config_text(_CONFIG).encode(),
    config_text(_CONFIG).encode() + b"\0" + _PICTURE.hex().encode(),
    _PICTURE,
    _SOUND,
    end_text().encode(),
    b"/rtmps/h264/rtmps://x.example:443/app/sk_abc",
)


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module, in any order of messages; nothing comes after the end."""
    connection = FramesConnection()
    text = data.decode("utf-8", "replace")
    messages: list[str | bytes] = [data, text, *text.split("\0"), config_text(_CONFIG), data, data[:20]]
    for message in messages:
        ended = connection.state is PushState.ENDED
        try:
            event = connection.receive(message)
        except RemoteProtocolError:
            continue  # the documented refusal
        assert not ended
        if isinstance(event, Chunk):
            assert chunk_bytes(event) == message
        elif isinstance(event, Configured):
            assert push.read_text(config_text(event)) == event
        else:
            assert isinstance(event, PushEnded)
    push_original.parse_path(text)
    assert len(push.close_reason(text).encode()) <= 123
