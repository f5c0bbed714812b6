"""Wire: the message layer of both sides of an RTMP connection: chunks, acknowledgements, pings, bytes to send."""

import math
from dataclasses import dataclass

from gateway.formats.flv.demuxer import parse_script
from gateway.formats.flv.tag import ScriptTag
from gateway.media.errors import InvalidData
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.chunk_reader import MAX_CHUNK_STREAMS, MAX_MESSAGE, MAX_PENDING, ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.command import amf_payload
from gateway.protocols.rtmp.events import CommandIgnored
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

_AGGREGATE_HEADER = 11  # bytes, in the form of an FLV tag header
_CONTROLS = (ACKNOWLEDGEMENT, WINDOW_ACK_SIZE, SET_PEER_BANDWIDTH)
_LAST_SEQUENCE = 0xF0000000
_SMALL_WINDOW = 1_000_000  # bytes


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Limits on memory and work per connection; in bytes, except the last two."""

    message: int = MAX_MESSAGE
    pending: int = MAX_PENDING
    early_media: int = 1 << 15  # unfinished and held messages before a publish is accepted
    unexpected_media: int = 1 << 20  # media before and after a publish, which is dropped
    chunk_streams: int = MAX_CHUNK_STREAMS
    aggregate: int = 4096  # messages in one aggregate


class Wire:
    """The message layer of one connection, after the handshake.

    received: bytes received, including the handshake.
    queued: the bytes to send. The list object never changes.
    """

    __slots__ = (
        *("_ack_at", "_acknowledged", "_limits", "_reader", "_sequence", "_window", "_writer"),
        *("announced_window", "queued", "received"),
    )

    def __init__(self, limits: WireLimits) -> None:
        self._limits = limits
        self._reader = ChunkReader(
            max_message=limits.message, max_pending=limits.pending, max_streams=limits.chunk_streams
        )
        self._writer = ChunkWriter()
        self.queued: list[bytes] = []
        self.received = 0
        self._window = 0  # of the peer; 0: it has told none
        self._ack_at: float = math.inf  # the next acknowledgement is sent at this value of `received`
        self._acknowledged = self._sequence = 0  # of the last acknowledgement: `received`, and what it said
        self.announced_window = 0

    # Receiving

    def receive(self, data: bytes) -> list[Message]:
        """Returns the messages that `data` completes, including control messages. Queues acknowledgements."""
        self.received += len(data)
        if self.received >= self._ack_at:
            self._send_acknowledgement()
        return self._reader.receive(data)

    def release_buffers(self) -> None:
        """Frees the received bytes. `receive` cannot be called afterwards."""
        self._reader.release_buffers()

    def set_limits(self, message: int, pending: int) -> None:
        """Sets the limits of one message, and of all unfinished messages together, in bytes."""
        self._reader.max_message, self._reader.max_pending = message, pending

    def handle_control(self, message: Message) -> CommandIgnored | None:
        """Handles a protocol or user control message. Raises RemoteProtocolError if it is too short.

        Returns an event if its type is unknown. Acknowledgements and answers to pings need no handling: every
        received byte shows that the peer is alive.
        """
        payload = message.payload
        if message.type_id == USER_CONTROL:
            return self._user_control(payload)
        if message.type_id not in _CONTROLS:
            return CommandIgnored(f"message type {message.type_id}", f"{len(payload)} bytes")
        if len(payload) < 4:
            raise RemoteProtocolError(f"control message {message.type_id} of {len(payload)} bytes")
        value = int.from_bytes(payload[:4], "big")
        if message.type_id == WINDOW_ACK_SIZE:
            self.acknowledge(value)
        elif message.type_id == SET_PEER_BANDWIDTH and value != self.announced_window:
            # §5.4.5: "The peer receiving this message SHOULD respond with a Window Acknowledgement Size message if
            # the window size is different from the last one sent"
            self.send_window(value)
        return None

    def acknowledge(self, window: int) -> None:
        """Acknowledges every half window, because some peers stop sending at a full window.

        A peer without a window (ffmpeg, OBS) gets none, as of SRS: if one comes when it has closed its socket, its
        kernel resets the connection and drops what it has not sent.
        """
        self._window = max(window & 0x7FFFFFFF, 4096)  # the minimum prevents an acknowledgement for every byte
        self._ack_at = min(self._ack_at, self.received + self._window // 2)

    def _user_control(self, payload: bytes) -> CommandIgnored | None:
        if len(payload) < 6:
            return CommandIgnored("user control", f"{len(payload)} bytes")
        event, value = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:6], "big")
        if event == UserControl.PING_REQUEST:
            self.send_control(USER_CONTROL, user_control(UserControl.PING_RESPONSE, value))
        return None  # buffer length, stream begin and others; 26, 31 and 32 are answers of Flash to its server

    def read_script(self, message: Message) -> ScriptTag | CommandIgnored:
        """Returns a data message as an event. Invalid data is ignored, because metadata must not end a stream."""
        try:
            return parse_script(message.timestamp, amf_payload(message))
        except InvalidData as error:
            return CommandIgnored("data message", str(error))

    def split(self, message: Message) -> list[Message]:
        """Splits an aggregate (§7.1.6) into its audio, video and data messages. Their times become absolute.

        "The difference between the timestamps of the aggregate message and the first sub-message is the offset to
        renormalize the timestamps of the sub-messages". A truncated message at the end is dropped. Raises
        RemoteProtocolError if there are more messages than the limit, of any size and type.
        """
        payload = message.payload
        position, count, end = 0, 0, len(payload)
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
            count += 1
            if count > self._limits.aggregate:
                raise RemoteProtocolError(f"more than {self._limits.aggregate} messages in an aggregate")
            if size and type_id in (AUDIO, VIDEO, DATA):
                # "Its message stream ID overrides the message stream IDs of the sub-messages"
                absolute = (time + offset) & 0xFFFFFFFF
                messages.append(Message(type_id, absolute, message.stream_id, payload[body : body + size]))
            position = body + size + 4  # the back pointer
        return messages

    # Sending

    def send(self, csid: int, type_id: int, stream_id: int, payload: bytes, timestamp: int = 0) -> None:
        """Queues one message."""
        self.queued.append(self._writer.write(csid, type_id, timestamp, stream_id, payload))

    def send_control(self, type_id: int, payload: bytes) -> None:
        """Queues a control message (§5.4: "message stream ID 0 … sent in chunk stream ID 2")."""
        self.send(CSID_CONTROL, type_id, 0, payload)

    def send_command(self, stream_id: int, payload: bytes) -> None:
        """Queues a command message."""
        self.send(CSID_COMMAND, COMMAND, stream_id, payload)

    def _send_acknowledgement(self) -> None:
        """Counts like Flash Player: above 0xF0000000, from the last acknowledgement. Otherwise FMLE stops there.

        HaishinKit and Moblin, with a window of 100,000, take the number modulo 2³².
        """
        new, self._acknowledged = self.received - self._acknowledged, self.received
        self._ack_at = self.received + self._window // 2
        self._sequence += new
        if self._sequence > _LAST_SEQUENCE and self._window >= _SMALL_WINDOW:
            self._sequence = new
        self.send_control(ACKNOWLEDGEMENT, uint32(self._sequence))

    def send_window(self, window: int) -> None:
        """Sends Window Acknowledgement Size: the peer acknowledges every `window` bytes."""
        self.announced_window = window
        self.send_control(WINDOW_ACK_SIZE, uint32(window))

    def send_chunk_size(self, size: int) -> None:
        """Announces our chunk size, and uses it for the following messages."""
        self.send_control(SET_CHUNK_SIZE, uint32(size))
        self._writer.chunk_size = size

    def send_raw(self, data: bytes) -> None:
        """Queues raw bytes of the handshake."""
        if data:
            self.queued.append(data)

    @property
    def chunk_size(self) -> int:
        """The chunk size for sending, as announced to the peer."""
        return self._writer.chunk_size

    @property
    def pending(self) -> int:
        """Bytes held for unfinished messages."""
        return self._reader.pending

    def data_to_send(self) -> bytes:
        """Returns all queued bytes and empties the queue."""
        if not self.queued:
            return b""
        data = b"".join(self.queued)
        self.queued.clear()
        return data
