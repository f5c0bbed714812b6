"""What one media message costs: CPU µs in ServerConnection.receive and in MediaDemuxer, pyrtmp 0.3.1 beside it.

    python -m bench.bench_rtmp_ingest [--size 10000] [--messages 20000] [--no-baseline]

A message is a legacy H.264 frame of `size` bytes and, after each, an AAC frame of 370 bytes that is not counted as a
message of its own where the table says "frame". Times are process CPU, best of five runs.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.client import ClientConnection, ClientRole
from gateway.protocols.rtmp.events import PublishRequested
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.url import parse_url

_AVCC = bytes.fromhex(
    "0164001fffe1001967640 01facd9405005bb011000000300100000030320f1831960 01000568ebecb22c".replace(" ", "")
)


def publishing() -> ServerConnection:
    """A server connection that a publisher is on."""
    server = ServerConnection()
    client = ClientConnection(parse_url("rtmp://localhost/stream/bench"), ClientRole.PUBLISH)
    while True:
        up = client.data_to_send()
        if not up:
            return server
        for event in server.receive(up):
            if isinstance(event, PublishRequested):
                server.accept_publish()
        client.receive(server.data_to_send())


def frames(count: int, size: int, chunk_size: int, audio: bool) -> list[bytes]:
    """The chunks of each video frame, as one publisher sends them, after a Set Chunk Size."""
    writer = ChunkWriter()
    out = [writer.write(2, 1, 0, 0, chunk_size.to_bytes(4, "big"))]
    writer.chunk_size = chunk_size
    body = b"\x27\x01\x00\x00\x00" + bytes(range(256)) * (size // 256)
    sound = b"\xaf\x01" + bytes(368)
    for index in range(count):
        piece = writer.write(6, 9, index * 33, 1, body)
        if audio:
            piece += writer.write(4, 8, index * 33, 1, sound)
        out.append(piece)
    return out


def best(run: Callable[[], None], count: int) -> float:
    """CPU µs per message, best of five."""
    times = []
    for _ in range(5):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times) / count * 1e6


def ours(pieces: list[bytes], count: int, cut: int = 0) -> float:
    if cut:
        whole = b"".join(pieces)
        pieces = [whole[i : i + cut] for i in range(0, len(whole), cut)]

    def run() -> None:
        server = publishing()
        receive = server.receive
        for piece in pieces:
            receive(piece)

    return best(run, count)


def demuxing(count: int, size: int) -> tuple[float, float]:
    demux = MediaDemuxer()
    demux.read_video(0, b"\x17\x00\x00\x00\x00" + _AVCC)
    demux.read_audio(0, b"\xaf\x00\x12\x10")
    body = b"\x27\x01\x00\x00\x00" + bytes(size)
    sound = b"\xaf\x01" + bytes(368)

    def video() -> None:
        for index in range(count):
            demux.read_video(index, body, 1.0)

    def audio() -> None:
        for index in range(count):
            demux.read_audio(index, sound, 1.0)

    return best(video, count), best(audio, count)


def baseline(pieces: list[bytes], count: int) -> float:
    """pyrtmp's chunk parser over the same bytes."""
    from pyrtmp.session_manager import SessionManager

    async def parse() -> None:
        reader = asyncio.StreamReader(limit=1 << 30)
        reader.feed_data(b"".join(pieces))
        reader.feed_eof()
        session = SessionManager(reader=reader, writer=None)  # type: ignore[arg-type]
        left = count
        async for chunk in session.read_chunks_from_stream():
            message = chunk
            if message.msg_type_id == 1:
                session.reader_chunk_size = int.from_bytes(message.payload[:4], "big")
            else:
                left -= 1
            if not left:
                return

    return best(lambda: asyncio.run(parse()), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--no-baseline", action="store_true")
    options = parser.parse_args()
    count, size = options.messages, options.size
    video, audio = demuxing(count, size)
    print(f"MediaDemuxer: video {video:.2f} µs, audio {audio:.2f} µs per body")
    print(f"receive(), {size} byte frames:")
    for chunk_size in (65536, 4096, 128):
        pieces = frames(count, size, chunk_size, audio=False)
        row = [f"chunk {chunk_size:>5}: a frame per read {ours(pieces, count):6.2f} µs"]
        row.append(f"read in 64 kB {ours(pieces, count, 65536):6.2f}")
        row.append(f"in 1448 B {ours(pieces, count, 1448):6.2f}")
        pieces = frames(count, size, chunk_size, audio=True)
        row.append(f"frame and sound {ours(pieces, count):6.2f}")
        if not options.no_baseline:
            few = frames(count // 20, size, chunk_size, audio=False)
            row.append(f"pyrtmp {baseline(few, count // 20):8.1f}")
        print("  " + ", ".join(row))


if __name__ == "__main__":
    main()
