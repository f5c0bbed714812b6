"""ChunkReader: turns the chunks of a byte stream (§5.3) into messages.

Cost: a message that is whole in the received bytes costs one slice. If it spans chunks, one strided deletion removes
the chunk headers inside. A message in several pieces costs a slice per piece and one join. Bytes are copied once more
only if a read ends inside a chunk header.
"""

from __future__ import annotations

import struct

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.message import ABORT, SET_CHUNK_SIZE, Message

DEFAULT_CHUNK_SIZE = 128  # §5.4.1: "The maximum chunk size defaults to 128 bytes"
MAX_MESSAGE = 8 << 20
MAX_PENDING = 16 << 20
MAX_CHUNK_STREAMS = 64

_two_words = struct.Struct(">II").unpack_from
_EXTENDED = 0xFFFFFF
_RUN = 2048  # chunks tested at once: bounds the cost of a pattern that breaks late, covers a 256 kB read at 128
_FOLD = 256  # so many parts are joined into one, because a part of a few bytes costs fifty bytes
# Bytes of the message header by fmt (§5.3.1.2), the basic header's first byte not counted.
_HEADER_SIZE = (11, 7, 3, 0)


class _ChunkStream:
    """The state of one chunk stream id: the last header, and the message being assembled."""

    __slots__ = ("delta", "extended", "folded", "length", "missing", "parts", "stream_id", "timestamp", "type_id")

    def __init__(self) -> None:
        self.timestamp = 0
        self.delta = 0
        self.length = -1  # unknown before the first header
        self.type_id = 0
        self.stream_id = 0
        self.extended = b""  # the extended timestamp field of the last header, if it had one
        self.parts: list[bytes] = []
        self.folded = 0  # number of parts that are joined ones
        self.missing = 0  # bytes of the message that have not come; 0: no message is being assembled


class ChunkReader:
    """`receive(data)` returns the messages that `data` completes. Set Chunk Size and Abort are handled here and not
    returned.

    max_message: bound of a message, bytes; may be changed at any time.
    max_pending: bound of all unfinished messages together, bytes; may be changed at any time.
    max_streams: bound of the number of chunk stream ids.

    Memory grows with the received bytes, not with a declared length.
    Raises RemoteProtocolError if the peer breaks the chunk format or a bound; then the reader cannot be used any more.
    Timestamps wrap at 2**32; the caller unwraps them.
    """

    __slots__ = (
        "_current",
        "_max_streams",
        "_need",
        "_pending",
        "_rest",
        "_streams",
        "chunk_size",
        "max_message",
        "max_pending",
    )

    def __init__(
        self,
        *,
        max_message: int = MAX_MESSAGE,
        max_pending: int = MAX_PENDING,
        max_streams: int = MAX_CHUNK_STREAMS,
    ) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self.max_message = max_message
        self.max_pending = max_pending
        self._max_streams = max_streams
        self._streams: dict[int, _ChunkStream] = {}
        self._rest = b""  # an unfinished chunk header, under 20 bytes
        self._current: _ChunkStream | None = None  # the stream whose chunk is being received
        self._need = 0  # bytes of that chunk that have not come
        self._pending = 0  # bytes held in parts of all streams

    @property
    def pending(self) -> int:
        """Bytes held for unfinished messages."""
        return self._pending

    def forget(self) -> None:
        """Frees everything; the reader cannot be used any more."""
        self._streams.clear()
        self._rest = b""
        self._current = None
        self._need = self._pending = 0

    def receive(self, data: bytes) -> list[Message]:
        """Takes any piece of the byte stream. Raises RemoteProtocolError."""
        messages: list[Message] = []
        position = 0
        if self._need:
            position = self._resume(data, messages)
            if self._need:
                return messages
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        end = len(data)
        streams = self._streams
        while position < end:
            start = position
            first = data[position]
            csid = first & 63
            position += 1
            if csid < 2:  # §5.3.1.1: 0 = ids 64-319 in one byte more, 1 = ids 64-65599 in two
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
                stream = self._open(csid, first >> 6)

            if first >= 0xC0 and stream.missing:  # fmt 3 within a message
                extended = stream.extended
                if extended:
                    # Senders repeat the field in every chunk, except librtmp before 2014 and old OBS. Equal bytes
                    # are the field, others are payload.
                    peek = data[position : position + 4]
                    if peek == extended:
                        position += 4
                    elif len(peek) < 4 and extended.startswith(peek):
                        position = start
                        break
            else:
                fmt = first >> 6
                header = position + _HEADER_SIZE[fmt]
                if header > end:
                    position = start
                    break
                if stream.missing:
                    raise RemoteProtocolError(f"chunk stream {csid}: new message inside an unfinished one")
                if fmt == 3:
                    extended = stream.extended
                    if extended:
                        peek = data[header : header + 4]
                        if peek == extended:
                            header += 4
                        elif len(peek) < 4 and extended.startswith(peek):
                            position = start
                            break
                    if stream.length < 0:
                        raise RemoteProtocolError(f"chunk stream {csid}: fmt 3 before any header")
                    stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
                else:
                    if fmt == 2:
                        time = int.from_bytes(data[position:header], "big")
                    else:
                        # From the byte before the message header: basic header byte and time; length and type.
                        time, length_type = _two_words(data, position - 1)
                        time &= 0xFFFFFF
                    if time == _EXTENDED:
                        extended = data[header : header + 4]
                        if len(extended) < 4:
                            position = start
                            break
                        time = int.from_bytes(extended, "big")
                        header += 4
                        stream.extended = extended
                    elif stream.extended:
                        stream.extended = b""
                    stream.delta = time  # also after fmt 0: §5.3.1.2.4 gives fmt 3 its timestamp as the delta
                    if fmt == 0:
                        stream.timestamp = time
                        stream.stream_id = int.from_bytes(data[position + 7 : position + 11], "little")
                    else:
                        stream.timestamp = (stream.timestamp + time) & 0xFFFFFFFF
                    if fmt != 2:
                        length = length_type >> 8
                        if length > self.max_message:
                            raise RemoteProtocolError(
                                f"message of {length} bytes, at most {self.max_message} are taken"
                            )
                        stream.length = length
                        stream.type_id = length_type & 0xFF
                    elif stream.length < 0:
                        raise RemoteProtocolError(f"chunk stream {csid}: fmt 2 before any header")
                position = header
                length = stream.length
                size = self.chunk_size
                if length <= size:
                    stop = position + length
                    if stop <= end:  # the whole message is here
                        type_id = stream.type_id
                        message = Message(type_id, stream.timestamp, stream.stream_id, data[position:stop])
                        position = stop
                        if type_id > 2:
                            messages.append(message)
                        else:
                            self._control(message)
                        continue
                elif csid < 64 and not stream.extended:
                    breaks = (length - 1) // size
                    stop = position + length + breaks
                    if stop <= end and breaks <= _RUN:
                        payload = _unbroken(data, position, stop, size, csid, breaks)
                        if payload is not None:
                            type_id = stream.type_id
                            message = Message(type_id, stream.timestamp, stream.stream_id, payload)
                            position = stop
                            if type_id > 2:
                                messages.append(message)
                            else:  # at a chunk size below 4 a Set Chunk Size spans chunks, too
                                self._control(message)
                            continue
                stream.missing = length

            missing = stream.missing
            size = self.chunk_size
            if missing > size and csid < 64 and not stream.extended:
                # Takes the received part of a message in one step: whole chunks, each with the next one's header.
                run = min((missing - 1) // size, (end - position) // (size + 1), _RUN)
                if run > 1:
                    stop = position + run * (size + 1)
                    payload = _unbroken(data, position, stop, size, csid, run)
                    if payload is not None:
                        self._hold(stream, payload)
                        position = stop
                        missing = stream.missing
            need = size if missing > size else missing
            stop = position + need
            if stop > end:
                if position < end:
                    self._hold(stream, data[position:end])
                self._current = stream
                self._need = stop - end
                return messages
            self._hold(stream, data[position:stop])
            position = stop
            if not stream.missing:
                self._complete(stream, messages)
        if position < end:
            self._rest = data[position:]
        return messages

    def _resume(self, data: bytes, messages: list[Message]) -> int:
        """Takes payload of the chunk that an earlier read began; returns the position of the next chunk header in
        `data`.
        """
        stream = self._current
        assert stream is not None, "a chunk is awaited, so its stream is known"
        need = self._need
        size = len(data)
        if size < need:
            if data:
                self._hold(stream, data)
            self._need = need - size
            return size
        self._hold(stream, data if size == need else data[:need])
        self._need = 0
        self._current = None
        if not stream.missing:
            self._complete(stream, messages)
        return need

    def _hold(self, stream: _ChunkStream, part: bytes) -> None:
        parts = stream.parts
        parts.append(part)
        if len(parts) - stream.folded >= _FOLD:
            parts[stream.folded :] = [b"".join(parts[stream.folded :])]
            stream.folded += 1
        stream.missing -= len(part)
        self._pending += len(part)
        if self._pending > self.max_pending:
            raise RemoteProtocolError(f"more than {self.max_pending} bytes in unfinished messages")

    def _complete(self, stream: _ChunkStream, messages: list[Message]) -> None:
        payload = b"".join(stream.parts)
        stream.parts.clear()
        stream.folded = 0
        self._pending -= len(payload)
        message = Message(stream.type_id, stream.timestamp, stream.stream_id, payload)
        if stream.type_id > 2:
            messages.append(message)
        else:
            self._control(message)

    def _open(self, csid: int, fmt: int) -> _ChunkStream:
        if fmt > 1:
            raise RemoteProtocolError(f"chunk stream {csid} begins with fmt {fmt}")
        # fmt 1 is accepted: some librtmp builds send their first ping on chunk stream 2 with it.
        if len(self._streams) >= self._max_streams:
            raise RemoteProtocolError(f"more than {self._max_streams} chunk streams")
        stream = self._streams[csid] = _ChunkStream()
        return stream

    def _control(self, message: Message) -> None:
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
                self._pending -= sum(map(len, stream.parts))
                stream.parts.clear()
                stream.folded = 0
                stream.missing = 0
        # Type 0 does not exist; it is dropped.


def _unbroken(data: bytes, position: int, stop: int, size: int, csid: int, breaks: int) -> bytes | None:
    """Returns the payload of `data[position:stop]` without the `breaks` one-byte headers in it.

    Returns None if another chunk is in between. Otherwise every (size + 1)th byte after the first chunk's payload is
    the one-byte fmt 3 header.
    """
    if data[position + size : stop : size + 1] != bytes((0xC0 | csid,)) * breaks:
        return None
    body = bytearray(data[position:stop])
    del body[size :: size + 1]
    return bytes(body)
