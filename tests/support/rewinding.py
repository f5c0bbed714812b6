"""Stored on-demand sessions of earlier pushes, created from one short film."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from gateway.live.sink import EndReason
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.outputs.storage.stored_pieces import StoredPiece, read_playlist
from gateway.ports import media_keys
from tests.support import builders
from tests.support.media import Film
from tests.support.recording import RunningArchive, play, subscriptions


class StoredFilm:
    """The segments that the on-demand recording makes of a film. Use as a `with` block."""

    def __init__(self, source: Film, seconds: int = 2) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="millrace-rewind-"))
        self.pieces: list[StoredPiece] = asyncio.run(self._record(source, seconds))

    async def _record(self, source: Film, seconds: int) -> list[StoredPiece]:
        async with RunningArchive(self._folder).open() as archive:
            publisher = builders.publish(builders.hub(), "film", ondemand_time=seconds)
            stream = publisher.stream
            output = archive.on_demand(stream)
            output.begin(stream)
            running = asyncio.ensure_future(output.run(stream))
            for n, _ in enumerate(play(source, publisher)):
                if n % 20 == 19:
                    while any(sink.waiting for sink in subscriptions(stream)):
                        await asyncio.sleep(0.002)
            stream.end(EndReason.PUBLISHER_GONE)
            await running
            (index,) = archive.files("**/*.m3u8")
        return list(read_playlist("film", index.read_bytes()))

    def __enter__(self) -> "StoredFilm":
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder)

    def store(self, media: Path, channel: str, start: float, *, kept: bool = True) -> list[RecordedSegment]:
        """Stores the film as a session of a channel. start: seconds since the epoch."""
        first, wall = int(start * 1000), start
        entries: list[RecordedSegment] = []
        for n, piece in enumerate(self.pieces):
            file = media / media_keys.segment_key(channel, first + n)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._folder / "media" / piece.key, file)
            entries.append(RecordedSegment(first + n, piece.seconds, file.stat().st_size, n == 0, wall))
            wall += piece.seconds
        (media / media_keys.playlist_key(channel, first)).write_text(playlist(entries, kept))
        return entries
