"""Wire: the common part of both ends of an RTMP connection: chunks, acknowledgements, pings, and the bytes to send."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from gateway.formats.flv.demuxer import parse_script
from gateway.formats.flv.tag import Script
from gateway.media.errors import InvalidData
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.chunk_reader import MAX_CHUNK_STREAMS, MAX_MESSAGE, MAX_PENDING, ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.command import amf_payload
from gateway.protocols.rtmp.events import Acknowledged, CommandIgnored, PeerBufferLength, Pinged
from gateway.protocols.rtmp.message import (
    ACKNOWLEDGEMENT,
    AUDIO,
    COMMAND,
    CSID_COMMAND,
    CSID_CONTROL,
    DATA,
    SET_CHUNK_SIZE,
    SET_PEER_BANDWIDTH,
    USER_CONTROL,
    VIDEO,
    WINDOW_ACK_SIZE,
    Message,
    UserControl,
    uint32,
    user_control,
)

ControlEvent = Acknowledged | Pinged | PeerBufferLength | CommandIgnored
_AGGREGATE_HEADER = 11
_CONTROLS = (ACKNOWLEDGEMENT, WINDOW_ACK_SIZE, SET_PEER_BANDWIDTH)


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Bounds on what a peer may make us hold or do; in bytes, except the last two."""

    message: int = MAX_MESSAGE
    pending: int = MAX_PENDING
    early_media: int = 1 << 15  # before a publish is accepted: unfinished messages, and held messages
    stray_media: int = 1 << 20  # unexpected media before and after a publish, which is dropped
    chunk_streams: int = MAX_CHUNK_STREAMS
    aggregate: int = 4096  # messages in one aggregate


class Wire:
    """The message layer of one connection, after the handshake. Only the connection classes use it."""

    __slots__ = (
        "_ack_at",
        "_acked",
        "_limits",
        "_out",
        "_reader",
        "_received",
        "_window",
        "_writer",
        "announced_window",
    )

    def __init__(self, limits: WireLimits, window: int) -> None:
        self._limits = limits
        self._reader = ChunkReader(
            max_message=limits.message, max_pending=limits.pending, max_streams=limits.chunk_streams
        )
        self._writer = ChunkWriter()
        self._out: list[bytes] = []
        self._received = 0
        self._acked = 0
        self._window = window
        self._ack_at = window // 2
        self.announced_window = 0

    # Receiving

    def receive(self, data: bytes) -> list[Message]:
        """Returns the messages that `data` completes, including control messages (see `control`). Queues
        acknowledgements.
        """
        self._received += len(data)
        if self._received >= self._ack_at:
            self._ack_at = self._received + self._window // 2
            self.send_control(ACKNOWLEDGEMENT, uint32(self._received))
        return self._reader.receive(data)

    def forget(self) -> None:
        """Frees the received bytes; nothing can be received any more."""
        self._reader.forget()

    def bound(self, message: int, pending: int) -> None:
        """Sets the bounds of a message, and of all unfinished messages together, in bytes."""
        self._reader.max_message, self._reader.max_pending = message, pending

    def count(self, size: int) -> None:
        """Counts bytes received before this layer began: acknowledgements count from the connection's start."""
        self._received += size

    def control(self, message: Message) -> ControlEvent | None:
        """Handles a protocol or user control message. Raises RemoteProtocolError for one that is too short."""
        payload = message.payload
        if message.type_id == USER_CONTROL:
            return self._user_control(payload)
        if message.type_id not in _CONTROLS:  # §5.4 names no type 7
            return CommandIgnored(f"message type {message.type_id}", f"{len(payload)} bytes")
        if len(payload) < 4:
            raise RemoteProtocolError(f"control message {message.type_id} of {len(payload)} bytes")
        value = int.from_bytes(payload[:4], "big")
        if message.type_id == ACKNOWLEDGEMENT:
            step = (value - self._acked) & 0xFFFFFFFF
            if step < 0x80000000:  # else it goes backwards, as some peers do
                self._acked += step
            return Acknowledged(self._acked)
        if message.type_id == WINDOW_ACK_SIZE:
            # Acknowledges every half window, so that peers that stop at an unacknowledged window never stop. The
            # minimum is against peers that would get an answer to every byte.
            self._window = max(value & 0x7FFFFFFF, 4096)
            self._ack_at = min(self._ack_at, self._received + self._window // 2)
        elif message.type_id == SET_PEER_BANDWIDTH and value != self.announced_window:
            # §5.4.5: "The peer receiving this message SHOULD respond with a Window Acknowledgement Size message if
            # the window size is different from the last one sent"
            self.send_window(value)
        return None

    def _user_control(self, payload: bytes) -> ControlEvent | None:
        if len(payload) < 6:
            return CommandIgnored("user control", f"{len(payload)} bytes")
        event, value = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:6], "big")
        if event == UserControl.PING_REQUEST:
            self.send_control(USER_CONTROL, user_control(UserControl.PING_RESPONSE, value))
            return None
        if event == UserControl.PING_RESPONSE:
            return Pinged(value)
        if event == UserControl.SET_BUFFER_LENGTH and len(payload) >= 10:
            return PeerBufferLength(int.from_bytes(payload[6:10], "big"))
        return None  # stream begin, stream end and others; 26, 31, 32 are answers of Flash to its server

    def script(self, message: Message) -> Script | CommandIgnored:
        """Returns a data message as an event. An unreadable one is ignored: metadata must not end a stream."""
        try:
            return parse_script(message.timestamp, amf_payload(message))
        except InvalidData as error:
            return CommandIgnored("data message", str(error))

    def split(self, message: Message) -> list[Message]:
        """Returns the audio, video and data messages of an aggregate (§7.1.6), with times moved to the aggregate's.

        "The difference between the timestamps of the aggregate message and the first sub-message is the offset to
        renormalize the timestamps of the sub-messages". A truncated message at the end is dropped. Raises
        RemoteProtocolError for more messages than the limit.
        """
        payload = message.payload
        position, end = 0, len(payload)
        offset: int | None = None
        messages: list[Message] = []
        while end - position >= _AGGREGATE_HEADER:
            type_id = payload[position]
            size = int.from_bytes(payload[position + 1 : position + 4], "big")
            time = int.from_bytes(payload[position + 4 : position + 7], "big") | payload[position + 7] << 24
            body = position + _AGGREGATE_HEADER
            if size > end - body:
                break
            if offset is None:
                offset = message.timestamp - time
            if size and type_id in (AUDIO, VIDEO, DATA):
                if len(messages) >= self._limits.aggregate:
                    raise RemoteProtocolError(f"more than {self._limits.aggregate} messages in an aggregate")
                # "Its message stream ID overrides the message stream IDs of the sub-messages"
                absolute = (time + offset) & 0xFFFFFFFF
                messages.append(Message(type_id, absolute, message.stream_id, payload[body : body + size]))
            position = body + size + 4  # the back pointer
        return messages

    # Sending

    def send(self, csid: int, type_id: int, stream_id: int, payload: bytes, timestamp: int = 0) -> None:
        """Queues one message."""
        self._out.append(self._writer.write(csid, type_id, timestamp, stream_id, payload))

    def send_control(self, type_id: int, payload: bytes) -> None:
        """Queues a control message (§5.4: "message stream ID 0 … sent in chunk stream ID 2")."""
        self.send(CSID_CONTROL, type_id, 0, payload)

    def send_command(self, stream_id: int, payload: bytes) -> None:
        """Queues a command message."""
        self.send(CSID_COMMAND, COMMAND, stream_id, payload)

    def send_window(self, window: int) -> None:
        """Tells the peer to acknowledge every `window` bytes."""
        self.announced_window = window
        self.send_control(WINDOW_ACK_SIZE, uint32(window))

    def send_chunk_size(self, size: int) -> None:
        """Announces our chunk size and uses it from then on."""
        self.send_control(SET_CHUNK_SIZE, uint32(size))
        self._writer.chunk_size = size

    def send_raw(self, data: bytes) -> None:
        """Queues bytes without chunks: those of the handshake."""
        if data:
            self._out.append(data)

    @property
    def chunk_size(self) -> int:
        """The chunk size that the peer was told."""
        return self._writer.chunk_size

    @property
    def received(self) -> int:
        """Bytes received."""
        return self._received

    @property
    def pending(self) -> int:
        """Bytes held for unfinished messages."""
        return self._reader.pending

    @property
    def waiting(self) -> Sized:
        """The list of queued bytes; always the same list."""
        return self._out

    def data_to_send(self) -> bytes:
        """Returns all queued bytes and empties the queue."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data
