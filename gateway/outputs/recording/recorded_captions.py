"""The captions of a recording: a WebVTT file for each caption track, beside each MP4."""

from functools import partial
from pathlib import Path

import structlog

from gateway.formats.captions.webvtt import webvtt
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.locked_file import disk_errors
from gateway.packaging.caption_pieces import CaptionCutter
from gateway.ports import media_keys
from gateway.ports.errors import OutputError

log = structlog.get_logger(__name__)


class RecordedCaptions:
    """Stores the captions of one recording. A crash loses those of the open piece. See `CaptionCutter.collect`."""

    def __init__(self, stream: Stream, archive: Archive) -> None:
        self._archive = archive
        self._cutter = CaptionCutter(stream.captions)
        self.collect = self._cutter.collect

    async def store(self, channel: str, start_ms: int, folder: Path, begin: int, end: int) -> None:
        """Stores the captions of a piece. Call it for each piece in order.

        start_ms: in the name of the MP4. folder: for unfinished files. begin, end: presentation times of the piece, in
        ticks of 90 kHz. What cannot be stored is left out, with a warning: the MP4 is worth more.
        """
        for track, cues in (self._cutter.cut(begin, end, VIDEO_CLOCK) or {}).items():
            key = media_keys.captions_key(media_keys.video_key(channel, start_ms), track)
            path = folder / f".{channel}~{start_ms}.{track}.vtt"
            await keep_captions(self._archive, key, path, webvtt(cues, begin))


async def keep_captions(archive: Archive, key: str, path: Path, data: bytes, *, replace: bool = False) -> None:
    """Stores `data`, through the file `path`. What cannot be stored is left out, with a warning."""
    try:
        await archive.threads.run(partial(_write, path, data))
        await archive.keep(key, path, replace=replace)
    except OutputError as error:
        log.warning("captions of a recording are not stored", object=key, reason=str(error))


def _write(path: Path, data: bytes) -> None:
    with disk_errors(path.parent):
        path.write_bytes(data)
