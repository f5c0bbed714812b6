"""RTMP messages, their type numbers, and the payloads of protocol and user control messages (§5.4, §6.2, §7.1.7)."""

import struct
from dataclasses import dataclass
from enum import IntEnum

SET_CHUNK_SIZE, ABORT, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_ACK_SIZE, SET_PEER_BANDWIDTH = 1, 2, 3, 4, 5, 6
AUDIO, VIDEO = 8, 9
DATA_AMF3, SHARED_OBJECT_AMF3, COMMAND_AMF3 = 15, 16, 17
DATA, SHARED_OBJECT, COMMAND = 18, 19, 20
AGGREGATE = 22
MEDIA = (AUDIO, VIDEO, DATA, DATA_AMF3)
COMMANDS = (COMMAND, COMMAND_AMF3)

# Chunk streams for sending. Media has separate ones, so that shared fmt 0 messages and compressed ones never mix.
CSID_CONTROL, CSID_COMMAND, CSID_AUDIO, CSID_DATA, CSID_VIDEO = 2, 3, 4, 5, 6
CSID = {AUDIO: CSID_AUDIO, VIDEO: CSID_VIDEO, DATA: CSID_DATA, COMMAND: CSID_COMMAND}

_u16u32 = struct.Struct(">HI")
_u16u32u32 = struct.Struct(">HII")


@dataclass(slots=True)
class Message:
    """One RTMP message.

    timestamp: milliseconds, 0 to 2**32 - 1, absolute.
    stream_id: the message stream.
    """

    type_id: int
    timestamp: int
    stream_id: int
    payload: bytes


class UserControl(IntEnum):
    """Event types of user control messages (§7.1.7)."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    STREAM_DRY = 2
    SET_BUFFER_LENGTH = 3
    STREAM_IS_RECORDED = 4
    PING_REQUEST = 6
    PING_RESPONSE = 7


def user_control(event: UserControl, value: int, second: int | None = None) -> bytes:
    """Returns the payload of a user control message with one number, or with two for SetBufferLength."""
    if second is None:
        return _u16u32.pack(event, value & 0xFFFFFFFF)
    return _u16u32u32.pack(event, value, second)


def uint32(value: int) -> bytes:
    """Returns the payload of Set Chunk Size, Window Acknowledgement Size and Acknowledgement."""
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def peer_bandwidth(window: int) -> bytes:
    """Returns the payload of Set Peer Bandwidth, with the limit type 2, dynamic (§5.4.5)."""
    return uint32(window) + b"\x02"
