"""ChunkReader: joins the chunks of a byte stream (§5.3) to messages.

Cost: a message that arrives in one read costs one slice. If it spans chunks, one strided deletion removes the chunk
headers inside it. A message in several reads costs a slice per read and one join. Bytes are copied once more only if
a read ends inside a chunk header.
"""

import struct
from dataclasses import dataclass, field

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.message import ABORT, SET_CHUNK_SIZE, Message

DEFAULT_CHUNK_SIZE = 128  # §5.4.1: "The maximum chunk size defaults to 128 bytes"
MAX_MESSAGE = 8 << 20
MAX_PENDING = 16 << 20
MAX_CHUNK_STREAMS = 64
# From here on, a delta of 24 bits is a step back, of up to 65 s. §5.3.1.2.1 wants a full header there, and VideoCore
# (apps of iOS) sends the low bits of the difference.
STEP_BACK = 0xFF0000

_unpack_two_uint32 = struct.Struct(">II").unpack_from
_EXTENDED_TIMESTAMP = 0xFFFFFF
_MAX_RUN = 2048  # chunks tested at once. It bounds the cost of a late mismatch, and covers a read of 256 kB at 128
_MAX_PARTS = 256  # more parts are joined to one, because each small part costs fifty bytes
# Bytes of the message header by fmt (§5.3.1.2), without the first byte of the basic header.
_HEADER_SIZE = (11, 7, 3, 0)


@dataclass(eq=False, slots=True)
class _ChunkStream:
    """The state of one chunk stream id: the last header, and the message being assembled."""

    timestamp: int = 0
    delta: int = 0
    length: int = -1  # of the message; -1: unknown before the first header
    type_id: int = 0
    stream_id: int = 0
    extended: bytes = b""  # the extended timestamp field of the last header, if it had one
    parts: list[bytes] = field(default_factory=list)
    joined: int = 0  # number of parts that were joined from others
    missing: int = 0  # bytes of the message that have not arrived; 0: no message is being assembled


class ChunkReader:
    """`receive(data)` returns the messages that `data` completes. It handles Set Chunk Size and Abort itself.

    max_message: limit of one message in bytes; may be changed at any time.
    max_pending: limit of all unfinished messages together in bytes; may be changed at any time.
    max_streams: limit of the number of chunk stream ids.
    pending: bytes held for unfinished messages.

    Memory grows with the received bytes, not with a declared length.
    Raises RemoteProtocolError if the peer breaks the chunk format or a limit. After that, the reader cannot be used.
    Timestamps wrap at 2**32; the caller unwraps them.
    """

    __slots__ = (
        "_chunk_missing", "_current", "_max_streams", "_partial_header", "_streams", "chunk_size", "max_message",
        "max_pending", "pending",
    )  # fmt: skip

    def __init__(
        self, *, max_message: int = MAX_MESSAGE, max_pending: int = MAX_PENDING, max_streams: int = MAX_CHUNK_STREAMS
    ) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self.max_message = max_message
        self.max_pending = max_pending
        self._max_streams = max_streams
        self._streams: dict[int, _ChunkStream] = {}
        self._partial_header = b""  # an unfinished chunk header, less than 20 bytes
        self._current: _ChunkStream | None = None  # the stream whose chunk is being received
        self._chunk_missing = 0  # bytes of that chunk that have not arrived
        self.pending = 0

    def release_buffers(self) -> None:
        """Frees all memory. `receive` cannot be called afterwards."""
        self._streams.clear()
        self._partial_header = b""
        self._current = None
        self._chunk_missing = self.pending = 0

    def receive(self, data: bytes) -> list[Message]:
        """Returns the messages that the next bytes of the stream complete. Raises RemoteProtocolError."""
        messages: list[Message] = []
        position = 0
        if self._chunk_missing:
            position = self._resume(data, messages)
            if self._chunk_missing:
                return messages
        elif self._partial_header:
            data = self._partial_header + data
            self._partial_header = b""
        end = len(data)
        streams = self._streams
        while position < end:
            start = position
            first = data[position]
            csid = first & 63
            position += 1
            if csid < 2:  # §5.3.1.1: 0 = ids 64-319 in one more byte, 1 = ids 64-65599 in two
                if end - position <= csid:
                    position = start
                    break
                if csid == 0:
                    csid = data[position] + 64
                    position += 1
                else:  # "ID = (third byte) * 256 + (second byte) + 64"
                    csid = data[position + 1] * 256 + data[position] + 64
                    position += 2
            stream = streams.get(csid)
            if stream is None:
                stream = self._open_stream(csid, first >> 6)

            if first >= 0xC0 and stream.missing:  # fmt 3 within a message
                if stream.extended:
                    repeated = _repeated(data, position, stream.extended)
                    if repeated is None:
                        position = start
                        break
                    position += repeated
            else:
                fmt = first >> 6
                header = position + _HEADER_SIZE[fmt]  # the end of the header
                if header > end:
                    position = start
                    break
                if stream.missing:
                    raise RemoteProtocolError(f"chunk stream {csid}: new message inside an unfinished one")
                if fmt == 3:
                    if stream.extended:
                        repeated = _repeated(data, header, stream.extended)
                        if repeated is None:
                            position = start
                            break
                        header += repeated
                    if stream.length < 0:
                        raise RemoteProtocolError(f"chunk stream {csid}: fmt 3 before any header")
                    stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
                else:
                    if fmt == 2:
                        time = int.from_bytes(data[position:header], "big")
                    else:
                        # From the byte before the message header: basic header byte and time; length and type.
                        time, length_type = _unpack_two_uint32(data, position - 1)
                        time &= 0xFFFFFF
                    if time == _EXTENDED_TIMESTAMP:
                        extended = data[header : header + 4]
                        if len(extended) < 4:
                            position = start
                            break
                        time = int.from_bytes(extended, "big")
                        header += 4
                        stream.extended = extended
                    else:
                        if time >= STEP_BACK and fmt:
                            time |= 0xFF000000
                        if stream.extended:
                            stream.extended = b""
                    stream.delta = time  # §5.3.1.2.4: for fmt 3 after fmt 0, the timestamp is the delta
                    if fmt == 0:
                        stream.timestamp = time
                        stream.stream_id = int.from_bytes(data[position + 7 : position + 11], "little")
                    else:
                        stream.timestamp = (stream.timestamp + time) & 0xFFFFFFFF
                    if fmt != 2:
                        length = length_type >> 8
                        if length > self.max_message:
                            raise RemoteProtocolError(f"message of {length} bytes, more than {self.max_message}")
                        stream.length = length
                        stream.type_id = length_type & 0xFF
                    elif stream.length < 0:
                        raise RemoteProtocolError(f"chunk stream {csid}: fmt 2 before any header")
                position = header
                length = stream.length
                size = self.chunk_size
                payload = None
                if length <= size:
                    stop = position + length
                    if stop <= end:
                        payload = data[position:stop]
                elif csid < 64 and not stream.extended:
                    breaks = (length - 1) // size
                    stop = position + length + breaks
                    if stop <= end and breaks <= _MAX_RUN:
                        payload = _without_headers(data, position, stop, size, csid, breaks)
                if payload is not None:  # the whole message has arrived
                    type_id = stream.type_id
                    message = Message(type_id, stream.timestamp, stream.stream_id, payload)
                    position = stop
                    if type_id > 2:
                        messages.append(message)
                    else:  # at a chunk size below 4, Set Chunk Size spans chunks too
                        self._handle_control(message)
                    continue
                stream.missing = length

            missing = stream.missing
            size = self.chunk_size
            if missing > size and csid < 64 and not stream.extended:
                # Reads the received part of a message in one step: whole chunks, each with the header of the next one.
                run = min((missing - 1) // size, (end - position) // (size + 1), _MAX_RUN)
                if run > 1:
                    stop = position + run * (size + 1)
                    payload = _without_headers(data, position, stop, size, csid, run)
                    if payload is not None:
                        self._hold(stream, payload)
                        position = stop
                        missing = stream.missing
            chunk_missing = size if missing > size else missing
            stop = position + chunk_missing
            if stop > end:
                if position < end:
                    self._hold(stream, data[position:end])
                self._current = stream
                self._chunk_missing = stop - end
                return messages
            self._hold(stream, data[position:stop])
            position = stop
            if not stream.missing:
                self._complete(stream, messages)
        if position < end:
            self._partial_header = data[position:]
        return messages

    def _resume(self, data: bytes, messages: list[Message]) -> int:
        """Reads the rest of a chunk from an earlier read. Returns the position of the next chunk header in `data`."""
        stream = self._current
        assert stream is not None, "a chunk is unfinished, so its stream is known"
        chunk_missing = self._chunk_missing
        size = len(data)
        if size < chunk_missing:
            if data:
                self._hold(stream, data)
            self._chunk_missing = chunk_missing - size
            return size
        self._hold(stream, data if size == chunk_missing else data[:chunk_missing])
        self._chunk_missing = 0
        self._current = None
        if not stream.missing:
            self._complete(stream, messages)
        return chunk_missing

    def _hold(self, stream: _ChunkStream, part: bytes) -> None:
        """Keeps a part of an unfinished message. Raises RemoteProtocolError above `max_pending`."""
        parts = stream.parts
        parts.append(part)
        if len(parts) - stream.joined >= _MAX_PARTS:
            parts[stream.joined :] = [b"".join(parts[stream.joined :])]
            stream.joined += 1
        stream.missing -= len(part)
        self.pending += len(part)
        if self.pending > self.max_pending:
            raise RemoteProtocolError(f"more than {self.max_pending} bytes in unfinished messages")

    def _complete(self, stream: _ChunkStream, messages: list[Message]) -> None:
        payload = b"".join(stream.parts)
        stream.parts.clear()
        stream.joined = 0
        self.pending -= len(payload)
        message = Message(stream.type_id, stream.timestamp, stream.stream_id, payload)
        if stream.type_id > 2:
            messages.append(message)
        else:
            self._handle_control(message)

    def _open_stream(self, csid: int, fmt: int) -> _ChunkStream:
        if fmt > 1:
            raise RemoteProtocolError(f"chunk stream {csid} begins with fmt {fmt}")
        # fmt 1 is accepted: some builds of librtmp begin chunk stream 2 with it, for their first ping.
        if len(self._streams) >= self._max_streams:
            raise RemoteProtocolError(f"more than {self._max_streams} chunk streams")
        stream = self._streams[csid] = _ChunkStream()
        return stream

    def _handle_control(self, message: Message) -> None:
        payload = message.payload
        if message.type_id == SET_CHUNK_SIZE:
            if len(payload) < 4:
                raise RemoteProtocolError(f"Set Chunk Size of {len(payload)} bytes")
            # §5.4.1: the first bit is 0, then "chunk size (31 bits)"; "The maximum chunk size SHOULD be at least
            # 128 bytes, and MUST be at least 1 byte"
            size = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
            if size < 1:
                raise RemoteProtocolError("chunk size 0")
            self.chunk_size = size
        elif message.type_id == ABORT:
            if len(payload) < 4:
                raise RemoteProtocolError(f"Abort of {len(payload)} bytes")
            stream = self._streams.get(int.from_bytes(payload[:4], "big"))
            if stream is not None and stream.missing:
                self.pending -= sum(map(len, stream.parts))
                stream.parts.clear()
                stream.joined = 0
                stream.missing = 0
        # Type 0 does not exist; such a message is dropped.


def _repeated(data: bytes, at: int, extended: bytes) -> int | None:
    """Returns the size of a repeated extended timestamp at `at`: 4, or 0 if it is not repeated.

    Returns None if too few bytes have arrived to decide.

    Senders repeat the field in every chunk, except librtmp before 2014 and old OBS. Equal bytes are the field; other
    bytes are payload.
    """
    peek = data[at : at + 4]
    if peek == extended:
        return 4
    return None if len(peek) < 4 and extended.startswith(peek) else 0


def _without_headers(data: bytes, position: int, stop: int, size: int, csid: int, breaks: int) -> bytes | None:
    """Returns the payload of `data[position:stop]` without the `breaks` one-byte headers in it.

    Returns None if another chunk is in between. Otherwise every (size + 1)th byte after the payload of the first chunk
    is a one-byte fmt 3 header.
    """
    if data[position + size : stop : size + 1] != bytes((0xC0 | csid,)) * breaks:
        return None
    body = bytearray(data[position:stop])
    del body[size :: size + 1]
    return bytes(body)
