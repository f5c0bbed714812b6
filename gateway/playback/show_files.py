"""Answers what a channel has of its shows: the feed, the calendar of the next one, and the report behind a link."""

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.formats.atom import Feed, FeedEntry, write_feed
from gateway.formats.icalendar import CalendarEvent, write_calendar
from gateway.http.request import Request
from gateway.http.response import JSON, Response, service_unavailable, text
from gateway.lib.address_counts import AddressCounts
from gateway.lib.refusals import Refusals
from gateway.lib.rfc3339 import rfc3339
from gateway.lib.tasks import Tasks
from gateway.playback.channel_searches import ChannelSearches
from gateway.playback.pages import public_base
from gateway.ports.errors import StoreUnavailable

FEED: Final = "feed.xml"
CALENDAR: Final = "next.ics"
REPORT: Final = "report.json"
PER_MINUTE: Final = 60  # reports that one address may read
_ATOM: Final = "application/atom+xml; charset=utf-8"
_ICALENDAR: Final = "text/calendar; charset=utf-8"
_CACHE: Final = "private, max-age=60"
_SECONDS: Final = 10.0  # for which the list of shows is used again
_WAIT: Final = 10.0  # seconds that a request waits for it
_RETRY: Final = 5  # seconds until a client should ask again
_MINUTES: Final = 60  # duration of the next show in a calendar: nobody has said how long it lasts
_NO_SHOW: Final = text(404, "no next show is known")
_NO_FEED: Final = text(404, "no such channel")
_WRONG_LINK: Final = text(403, "this link is wrong, or it is no longer valid")


@dataclass(slots=True, eq=False)
class ShowFiles:
    """The answers. The caller has checked the viewer's access for the feed and the calendar.

    listed(channel): the newest shows. read(channel, show, sign): a report. See `listed` and `report` of SharedReports;
    both raise StoreUnavailable. public_url: the setting; "": the host of the request.
    """

    listed: Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
    read: Callable[[str, str, str], Awaitable[Mapping[str, Any] | None]]
    refusals: Refusals
    tasks: Tasks
    public_url: str = ""
    _counts: AddressCounts = field(default_factory=lambda: AddressCounts(PER_MINUTE), init=False)
    _searches: ChannelSearches[Sequence[Mapping[str, Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self._searches = ChannelSearches(lambda channel, now: self.listed(channel), _SECONDS, self.tasks, wait=_WAIT)

    async def answer(self, request: Request, channel: Channel | None, file: str) -> Response:
        """Answers FEED and CALENDAR. channel: None if it is unknown; it then has neither."""
        if file == CALENDAR:
            return self._calendar(request, channel)
        return await self._feed(request, channel) if channel is not None else _NO_FEED

    def _calendar(self, request: Request, channel: Channel | None) -> Response:
        now = time.time()
        show = channel.upcoming(now) if channel is not None else None
        if channel is None or show is None:
            return _NO_SHOW
        uid = f"{round(show.at * 1000)}-{channel.id}@millrace"
        event = CalendarEvent(uid, show.title, show.text, show.at, _MINUTES, self._page(request, channel), now)
        headers = {"Content-Disposition": 'attachment; filename="next.ics"'}
        return Response(200, write_calendar(event), _ICALENDAR, cache=_CACHE, headers=headers)

    async def _feed(self, request: Request, channel: Channel) -> Response:
        page, name = self._page(request, channel), channel.name or channel.id
        shows = await self._searches.latest(channel.id)
        if shows is None:
            return service_unavailable("the shows cannot be read now", _RETRY)
        entries = [
            FeedEntry(
                _urn(channel.id, str(show["id"])),
                str(show["title"]),
                str(show["start"]),
                str(show["end"] or show["start"]),
                f"{page}vod/{show['session']}/" if show.get("session") else page,
            )
            for show in shows
        ]
        updated = max((entry.updated for entry in entries), default=rfc3339(0))
        own, about = f"{page}{FEED}", channel.text("description")
        feed = Feed(_urn(channel.id, ""), name, about, name, own, page, updated)
        return Response(200, write_feed(feed, entries), _ATOM, cache=_CACHE, compress=True)

    def _page(self, request: Request, channel: Channel) -> str:
        """Returns the address of the channel's page, without a signature."""
        return f"{public_base(request, self.public_url)}/{channel.public_name}/"

    async def report(self, request: Request, id: str) -> Response:
        """Answers REPORT: the signature in the query decides, not the protection of the channel."""
        now = time.monotonic()
        if not request.exempt and not self._counts.take(request.peer, now):
            return service_unavailable("too many reports are read from this address", 60, 429)
        show, sign = request.query.get("show", ""), request.query.get("sign", "")
        try:
            found = await self.read(id, show, sign)
        except StoreUnavailable as error:
            return service_unavailable("the report cannot be read now", error.retry_after)
        if found is not None:
            return Response(200, json.dumps(found).encode(), JSON, compress=True)
        if sign and not request.exempt and (seconds := self.refusals.add(request.peer, now)):
            return service_unavailable("too many refused requests from this address", seconds, 429)
        return _WRONG_LINK


def _urn(channel: str, show: str) -> str:
    """Returns an id that stays the same on all hosts."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'millrace:{channel}/{show}')}"
