"""A growing MP4 recording of any length, built from the fragments of a short one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from gateway.formats.mp4.entries import read_movie
from gateway.formats.mp4.reader import boxes
from gateway.live.sink import EndReason
from tests.support import builders
from tests.support.media import Film
from tests.support.recording import RunningArchive, play, settled


async def recorded(archive: RunningArchive, film: Film) -> bytes:
    """The unfinished file of a film's recording, without its last picture. It is removed from the archive."""
    publisher = builders.publish(builders.hub(), video_time="3600")
    stream = publisher.stream
    output = archive.recorder(stream)
    output.begin(stream)
    running = asyncio.ensure_future(output.run(stream))
    for n, _ in enumerate(play(film, publisher)):
        if n % 20 == 19:
            await asyncio.sleep(0.005)
    await output.flush()
    await settled(output)
    (file,) = archive.scratch()
    data = file.read_bytes()
    stream.end(EndReason.PUBLISHER_GONE)
    await running
    await archive.finisher.flush()
    for finished in archive.files("**/*.mp4"):
        finished.unlink()
    return data


def repeat(short: bytes, seconds: float, times: int) -> Iterator[bytes]:
    """Yields a recording that repeats the fragments of `short`, each time `seconds` later."""
    top = list(boxes(short))
    first = next(box.start for box in top if box.kind == b"moof")
    moov = next(box for box in top if box.kind == b"moov")
    scales = {entry.number: entry.track.timescale for entry in read_movie(short[moov.start : moov.end]).entries}
    yield short[:first]
    places: list[tuple[int, int, int]] = []  # position of a time, bytes of it, ticks a second
    for moof in top:
        if moof.kind != b"moof":
            continue
        for traf in boxes(short, moof.payload, moof.end):
            if traf.kind != b"traf":
                continue
            parts = {box.kind: box for box in boxes(short, traf.payload, traf.end)}
            tfhd, tfdt = parts[b"tfhd"], parts[b"tfdt"]
            track = int.from_bytes(short[tfhd.payload + 4 : tfhd.payload + 8], "big")
            places.append((tfdt.payload + 4 - first, 8 if short[tfdt.payload] else 4, scales[track]))
    for n in range(times):
        part = bytearray(short[first:])
        for at, size, scale in places:
            time = int.from_bytes(part[at : at + size], "big") + round(n * seconds * scale)
            part[at : at + size] = time.to_bytes(size, "big")
        yield bytes(part)


def write(path: Path, short: bytes, seconds: float, times: int) -> None:
    with path.open("wb") as file:
        file.writelines(repeat(short, seconds, times))
