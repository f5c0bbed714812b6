"""What packaging costs: microseconds of CPU a CMAF part and a TS segment, and PyAV beside.

Run: python -m bench.bench_packaging
"""

from __future__ import annotations

import argparse
import io
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import av

from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.ts.muxer import TsMuxer
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

FPS = 30
GOP = 60

# An SPS and PPS of x264, 1280x720 High.
_SPS = bytes.fromhex("6764001facd9405005bb016a02020280000003008000001e078c18cb")
_PPS = bytes.fromhex("68ebe3cb22c0")
AVCC = b"\x01\x64\x00\x1f\xff\xe1" + len(_SPS).to_bytes(2, "big") + _SPS + b"\x01" + len(_PPS).to_bytes(2, "big") + _PPS
VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC)
AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, bytes.fromhex("1190"))


def pictures(seconds: int, bitrate: int) -> list[tuple[bool, bytes]]:
    """Pictures of one slice each; a key frame is ten times a delta frame."""
    frames = seconds * FPS
    keys = (frames + GOP - 1) // GOP
    delta = seconds * bitrate // 8 // (frames + 9 * keys)
    out = []
    for n in range(frames):
        key = n % GOP == 0
        size = delta * (10 if key else 1)
        out.append((key, (size - 4).to_bytes(4, "big") + (b"\x65" if key else b"\x41") + b"\xab" * (size - 5)))
    return out


def best(work: Callable[[], object], repeat: int) -> float:
    """Least CPU seconds of one call, over `repeat` rounds: noise of the machine only adds."""
    least = float("inf")
    for _ in range(repeat):
        start = time.process_time_ns()
        for _ in range(20):
            work()
        least = min(least, (time.process_time_ns() - start) / 20e9)
    return least


def part_cost(bitrate: int, repeat: int) -> float:
    """CPU seconds of one 0.5 s video part of 15 samples with composition offsets."""
    samples = [Mp4Sample(3000, 6000 * (n % 2), key, p) for n, (key, p) in enumerate(pictures(1, bitrate)[:15])]
    return best(lambda: fragment(7, 1, 90_000_000, samples), repeat)


def audio_part_cost(repeat: int) -> float:
    """CPU seconds of one 0.5 s audio part of 24 AAC frames."""
    samples = [Mp4Sample(1024, 0, True, b"\x21" * 340) for _ in range(24)]
    return best(lambda: fragment(7, 2, 48_000_000, samples), repeat)


def ts_cost(seconds: int, bitrate: int, repeat: int) -> float:
    """CPU seconds of one TS segment of `seconds`, video and AAC, audio in packets of 4 frames."""
    frames = pictures(seconds, bitrate)
    audio = [b"\x21" * 340] * 4
    muxer = TsMuxer(VIDEO, AUDIO)
    clock = [0]

    window: deque[bytes] = deque(maxlen=6)  # as a live playlist keeps them; freeing at once would measure page faults

    def segment() -> None:
        out = [muxer.write_tables()]
        heard = clock[0]
        for key, payload in frames:
            if heard <= clock[0]:
                out += [p.render() for p in muxer.write_audio(audio, heard)]
                heard += 4 * 1920
            out.append(muxer.write_video(clock[0], 3000, key, payload).render())
            clock[0] += 3000
        window.append(b"".join(out))

    return best(segment, repeat)


def libav_cost(seconds: int, bitrate: int, repeat: int) -> float:
    """CPU seconds of the same segment without sound, written by libav's muxer through PyAV."""
    frames = [(key, b"\0\0\0\1" + payload[4:]) for key, payload in pictures(seconds, bitrate)]
    window: deque[bytes] = deque(maxlen=6)

    def segment() -> None:
        file = io.BytesIO()
        with av.open(file, "w", format="mpegts") as container:
            stream = container.add_mux_stream("h264", rate=FPS, width=1280, height=720)
            for n, (key, payload) in enumerate(frames):
                packet = av.Packet(payload)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 90_000), key
                packet.dts, packet.pts = n * 3000, (n + 1) * 3000
                container.mux(packet)
        window.append(file.getvalue())

    return best(segment, repeat)


def unit_costs(repeat: int) -> tuple[float, float]:
    """CPU seconds to make one unit of ours, and one packet of PyAV."""
    payload = bytes(10_000)

    def packet() -> None:
        made = av.Packet(payload)
        made.dts, made.pts, made.is_keyframe = 40, 40, True

    return best(lambda: AccessUnit(VIDEO, 40, 0, True, 2.0, payload), repeat), best(packet, repeat)


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeat", type=int, default=30, help="rounds of 20 calls; the best counts")
    repeat = options.parse_args().repeat
    for bitrate in (1_000_000, 2_500_000, 6_000_000):
        ts = ts_cost(2, bitrate, repeat)
        print(
            f"{bitrate / 1e6:.1f} Mbps: CMAF video part (0.5 s) {part_cost(bitrate, repeat) * 1e6:6.1f} µs, "
            f"TS segment (2 s) {ts * 1e6:7.1f} µs = {ts / 2 * 1e3:.3f} ms a stream-second, "
            f"by libav without sound {libav_cost(2, bitrate, repeat) * 1e6:7.1f} µs"
        )
    print(f"CMAF audio part (0.5 s) {audio_part_cost(repeat) * 1e6:.1f} µs")
    unit, packet = unit_costs(repeat)
    print(f"a unit {unit * 1e6:.2f} µs, a packet of PyAV {packet * 1e6:.2f} µs")


if __name__ == "__main__":
    main()
