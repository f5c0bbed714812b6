"""What reading a live MPEG-TS costs: CPU a second of media. Run: python -m bench.bench_ts_reader

The stream is ffmpeg's, 5 Mbit/s H.264 with AAC, in chunks of one and of ten SRT packets. Besides, it is read with the
payloads of its pictures replaced by empty NAL units, as a hostile publisher would send it.
"""

from __future__ import annotations

import argparse
import subprocess
import time

from gateway.formats.ts.program_reader import ProgramReader

_CHUNKS = (1_316, 13_160)
_EMPTY = b"\0\0\1" * 55


def stream(seconds: int) -> bytes:
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25", "-f", "lavfi", "-i",
               "anoisesrc=amplitude=0.2:sample_rate=48000", "-t", str(seconds), "-c:v", "libx264", "-preset",
               "veryfast", "-g", "50", "-b:v", "5M", "-minrate", "5M", "-maxrate", "5M", "-bufsize", "5M",
               "-x264-params", "nal-hrd=cbr", "-c:a", "aac", "-b:a", "128k", "-f", "mpegts", "-"]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True).stdout


def hostile(data: bytes) -> bytes:
    """Returns the stream with a PES packet of empty NAL units in each packet of its pictures."""
    made, counter = bytearray(data), 0
    for at in range(0, len(made), 188):
        if made[at + 1] & 0x1F == 1 and made[at + 2] == 0 and made[at + 3] & 0x10:  # ffmpeg's first PID, 0x100
            stamp = (0x21_0001_0001 | (900 * counter & 0x7FFF) << 1).to_bytes(5, "big")
            made[at + 1], made[at + 3], counter = 0x41, 0x10 | counter & 15, counter + 1
            made[at + 4 : at + 188] = (b"\0\0\1\xe0\0\0\x80\x80\x05" + stamp + _EMPTY).ljust(184, b"\0")
    return bytes(made)


def cost(data: bytes, chunk: int, repeat: int) -> float:
    """Least CPU seconds to read the stream, over `repeat` rounds."""
    pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    least = float("inf")
    for _ in range(repeat):
        reader = ProgramReader()
        start = time.process_time()
        for piece in pieces:
            reader.receive(piece)
        least = min(least, time.process_time() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    data = stream(options.seconds)
    print(f"{len(data) * 8 / options.seconds / 1e6:.2f} Mbit/s, {len(data) / 188 / options.seconds:.0f} packets/s")
    for name, read, chunk in [*(("chunks of", data, chunk) for chunk in _CHUNKS), ("hostile, ", hostile(data), 1_316)]:
        seconds = cost(read, chunk, options.repeat)
        per_packet = seconds / (len(data) / 188) * 1e6
        print(f"{name} {chunk:6}: {seconds / options.seconds * 100:.3f} % of a core, {per_packet:.2f} us a packet")


if __name__ == "__main__":
    main()
