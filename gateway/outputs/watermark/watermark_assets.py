"""Keeps a channel's watermark ready, fetches its picture, and reports what is not available."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.backoff import Backoff
from gateway.outputs.watermark.picture_fetcher import PictureFetcher, PictureUnavailable
from gateway.workers.watermark_spec import WatermarkSpec, picture_url

log = structlog.get_logger(__name__)

_HELD: Final = 2.0


class WatermarkAssets:
    """`mark` is the watermark to show now. `changed` is set when it changes; the reader clears it.

    If a picture cannot be fetched, the text is shown without it.
    This is logged once, and the fetch is repeated with growing pauses.
    """

    def __init__(self, pictures: PictureFetcher, channel: Channel) -> None:
        self.changed = True
        self._pictures = pictures
        self._channel = channel
        self.mark = WatermarkSpec.of(channel)
        self._url = ""  # of the picture in the watermark
        self._trouble: str | None = None  # of fetching
        self._notes: list[str] = []  # of drawing
        self._told: set[str] = set()
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def notes(self) -> list[str]:
        """The parts of the watermark that are not available, one sentence each."""
        return [*([self._trouble] if self._trouble else []), *self._notes]

    def wear(self, channel: Channel) -> None:
        """Takes the channel's new watermark. While its picture is fetched, the old watermark stays for up to two
        seconds.
        """
        self._channel = channel
        url = picture_url(channel)
        if url and url != self._url:
            self._hold()
            self._timer = asyncio.get_running_loop().call_later(_HELD, self._show, b"")
        else:
            self._show(self.mark.picture if url else b"")
        self._wake.set()

    def note(self, notes: list[str]) -> None:
        """Takes the worker's notes about the watermark that it drew last."""
        self._notes = notes
        self._tell(notes)

    async def ready(self, seconds: float) -> None:
        """Waits until the picture has been fetched or its first fetch has failed, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._tried.wait()

    async def run(self) -> None:
        """Fetches the channel's picture, and again after a change or a failure. Runs until cancelled."""
        backoff = Backoff(2.0, 300.0)
        while True:
            self._wake.clear()
            url = picture_url(self._channel)
            if not url:
                self._url, self._trouble = "", None
                self._show(b"")
            elif url != self._url or self._trouble:
                await self._fetch(url)
            self._tried.set()
            if self._trouble is None:
                backoff.reset()
                await self._wake.wait()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next()):
                        await self._wake.wait()

    async def _fetch(self, url: str) -> None:
        try:
            fetched = await self._pictures.fetch(url)
        except PictureUnavailable as error:
            self._trouble = f"the watermark's picture cannot be had: {error}"
            self._tell([self._trouble])
            if picture_url(self._channel) == url and self._url != url:
                self._url = ""
                self._show(b"")
            return
        if picture_url(self._channel) != url:
            return  # changed meanwhile
        self._trouble = f"the watermark's picture is an earlier copy: {fetched.stale}" if fetched.stale else None
        self._told.clear()
        self._url = url
        self._show(fetched.data)

    def _hold(self) -> None:
        """Cancels the timer that would show the new watermark."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _show(self, picture: bytes) -> None:
        self._hold()
        mark = replace(WatermarkSpec.of(self._channel), picture=picture)
        if mark != self.mark:
            self.mark = mark
            self.changed = True

    def _tell(self, notes: list[str]) -> None:
        for note in notes:
            if note not in self._told and len(self._told) < 100:
                self._told.add(note)
                log.warning("watermark", channel=self._channel.id, note=note)
