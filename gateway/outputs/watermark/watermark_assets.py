"""A channel's current watermark: fetches its picture, and reports missing parts."""

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.backoff import Backoff
from gateway.lib.waiting import wait_at_most
from gateway.outputs.watermark.picture_fetcher import PictureFetcher, PictureUnavailable
from gateway.workers.watermark_spec import WatermarkSpec, picture_url

log = structlog.get_logger(__name__)

_MAX_HOLD_SECONDS: Final = 2.0  # to show the old watermark while a new picture is fetched


class WatermarkAssets:
    """Finds the watermark of one channel. `mark` is the watermark to show now.

    `changed` is set when `mark` changes; the reader clears it.

    If a picture cannot be fetched, only the text is shown.
    The error is logged once, and the fetch is repeated with growing pauses.
    """

    def __init__(self, pictures: PictureFetcher, channel: Channel) -> None:
        self.changed = True
        self._pictures = pictures
        self._channel = channel
        self.mark = WatermarkSpec.of(channel)
        self._url = ""  # of the picture in `mark`
        self._error: str | None = None  # of the last fetch
        self._worker_notes: list[str] = []  # of the worker that draws it
        self._logged: set[str] = set()
        self._wake = asyncio.Event()
        self._first_fetch_done = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def notes(self) -> list[str]:
        """Returns one sentence for each missing part of the watermark."""
        return [*([self._error] if self._error else []), *self._worker_notes]

    def channel_changed(self, channel: Channel) -> None:
        """Sets the channel's new watermark.

        While its picture is fetched, the old watermark stays for at most two seconds.
        """
        self._channel = channel
        url = picture_url(channel)
        if url and url != self._url:
            self._cancel_timer()
            self._timer = asyncio.get_running_loop().call_later(_MAX_HOLD_SECONDS, self._show, b"")
        else:
            self._show(self.mark.picture if url else b"")
        self._wake.set()

    def set_worker_notes(self, notes: list[str]) -> None:
        """Sets the worker's notes on the watermark that it drew last."""
        self._worker_notes = notes
        self._log_once(notes)

    async def wait_for_first_fetch(self, seconds: float) -> None:
        """Waits at most `seconds` until the first fetch has succeeded or failed."""
        await wait_at_most(seconds, self._first_fetch_done)

    async def run(self) -> None:
        """Fetches the channel's picture, also after a change or an error. Runs until cancelled."""
        backoff = Backoff(2.0, 300.0)
        while True:
            self._wake.clear()
            url = picture_url(self._channel)
            if not url:
                self._url, self._error = "", None
                self._show(b"")
            elif url != self._url or self._error:
                await self._fetch(url)
            self._first_fetch_done.set()
            if self._error is None:
                backoff.reset()
            await wait_at_most(None if self._error is None else backoff.next(), self._wake)

    async def _fetch(self, url: str) -> None:
        try:
            fetched = await self._pictures.fetch(url)
        except PictureUnavailable as error:
            self._error = f"the watermark's picture is not available: {error}"
            self._log_once([self._error])
            if picture_url(self._channel) == url and self._url != url:
                self._url = ""
                self._show(b"")
            return
        if picture_url(self._channel) != url:
            return  # the URL has changed in the meantime
        self._error = f"the watermark's picture is an earlier copy: {fetched.stale}" if fetched.stale else None
        self._logged.clear()
        self._url = url
        self._show(fetched.data)

    def _cancel_timer(self) -> None:
        """Cancels the timer that shows the new watermark."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _show(self, picture: bytes) -> None:
        """Sets `mark` to the channel's watermark with this picture; empty: without a picture."""
        self._cancel_timer()
        mark = replace(WatermarkSpec.of(self._channel), picture=picture)
        if mark != self.mark:
            self.mark = mark
            self.changed = True

    def _log_once(self, notes: list[str]) -> None:
        for note in notes:
            if note not in self._logged and len(self._logged) < 100:
                self._logged.add(note)
                log.warning("watermark", channel=self._channel.id, note=note)
