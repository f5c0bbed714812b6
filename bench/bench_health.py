"""CPU of the health of live streams: per stream and second, for the units and for the rules.

    python -m bench.bench_health --streams 1000 --seconds 30

It pushes units of 720p30 streams with AAC (48 kHz) into a hub, with a measurement and without one, in turns, faster
than real time. So the figures are CPU time per second of media.
"""

from __future__ import annotations

import argparse
import statistics
import time

from gateway.diagnosis.stream_health import StreamHealth
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support import builders, sources

FPS, SOUNDS = 30, 47  # units a second
AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")  # 48 kHz, stereo


def publisher_of(stream: Stream) -> StreamPublisher:
    """A push to this stream."""
    origin = PushOrigin("rtmp", "127.0.0.1", trusted=True)
    stream.publisher = publisher = StreamPublisher(stream, origin, 0.0, lambda reason: None, lambda publisher: None)
    publisher.set_tracks(builders.VIDEO, AUDIO, {"framerate": 30.0, "videodatarate": 2500.0})
    return publisher


def push_second(publishers: list[StreamPublisher], second: int, sounds: list[bytes]) -> float:
    """Pushes one second of each stream. Returns the CPU time."""
    began = time.process_time()
    for publisher in publishers:
        for n in range(FPS):
            dts = second * 1000 + n * 1000 // FPS
            publisher.push(AccessUnit(builders.VIDEO, dts, 0, second % 2 == n == 0, 1.7e9 + dts / 1000, b"v" * 10), dts)
        for n in range(SOUNDS):
            dts = second * 1000 + n * 1000 // SOUNDS
            publisher.push(AccessUnit(AUDIO, dts, 0, True, 1.7e9 + dts / 1000, sounds[n]), dts)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    tone = sources.source("-f", "lavfi", "-i", "sine=r=48000", "-t", "2", *sources.AAC, container="flv")
    sounds = [unit.payload for unit in tone.units][5 : 5 + SOUNDS]
    watched, plain = ([publisher_of(builders.stream()) for _ in range(options.streams)] for _ in range(2))
    states = [StreamHealth(publisher.stream, lambda event: None, 1.7e9, lambda stream: False) for publisher in watched]
    rules, measured, without = [], [], []
    for second in range(options.seconds):
        without.append(push_second(plain, second, sounds))
        measured.append(push_second(watched, second, sounds))
        began = time.process_time()
        for state in states:
            state.evaluate(float(second + 1), 1.7e9 + second + 1)
        rules.append(time.process_time() - began)
    units = (statistics.median(measured) - statistics.median(without)) / options.streams
    each = statistics.median(rules) / options.streams
    print(f"units {units * 1e6:.0f} µs, rules {each * 1e6:.0f} µs a stream and second")
    print(f"together {(units + each) * 100:.3f} % of a core")
    print(f"without: {statistics.median(without) / options.streams * 1e6:.0f} µs; found: {states[0].findings}")


if __name__ == "__main__":
    main()
