"""Reads what viewers and people with a link may see of a channel's shows."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.channels.stores import ChannelReader, find_channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets, Verdict, report_name
from gateway.diagnosis.event_log import EventLog
from gateway.diagnosis.show_log import FRESH, ShowLog
from gateway.diagnosis.show_report import latest_before, report
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.rfc3339 import rfc3339

MAX_LISTED: Final = 20  # shows in a feed
_KEPT: Final = 10.0  # seconds for which a report is used again
_MAX_KEPT: Final = 500  # reports


@dataclass(slots=True, eq=False)
class SharedReports:
    """The shows for feeds, and reports for people with a signed link. channels: may be a cache.

    has_page(channel, start): see `has_page` of Replays.
    """

    channels: ChannelReader
    secrets: SigningSecrets = field(repr=False)
    shows: ShowLog
    events: EventLog
    has_page: Callable[[str, int], Awaitable[bool]]
    clocks: Clocks = SYSTEM_CLOCKS
    _kept: BoundedDict[tuple[str, str], tuple[float, Any]] = field(
        default_factory=lambda: BoundedDict(_MAX_KEPT), init=False
    )

    async def listed(self, channel: str) -> Sequence[Mapping[str, Any]]:
        """Returns start, end, title and recorded session of the newest shows. Raises StoreUnavailable.

        session: null if viewers do not find it.
        """
        shows = (await self.shows.shows(channel, FRESH))[:MAX_LISTED]
        return [
            {
                "id": show.id,
                "title": show.title,
                "start": rfc3339(show.start),
                "end": None if show.end is None else rfc3339(show.end),
                "session": show.session if show.session and await self.has_page(channel, show.session) else None,
            }
            for show in shows
        ]

    async def report(self, channel: str, show: str, sign: str) -> Mapping[str, Any] | None:
        """Returns the report of a show, without its address. Raises StoreUnavailable.

        None: the signature is wrong, expired or revoked, or there is no such show.
        """
        stored = await find_channel(self.channels, channel)
        key = stored.key if stored is not None else ""  # a signature for an unknown channel is checked all the same
        verdict = self.secrets.verify(report_name(channel, key, show), sign, self.clocks.wall(), SignatureUse.REPORT)
        if stored is None or verdict is not Verdict.VALID:
            return None
        made: Mapping[str, Any] | None = self._known(channel, show)
        if made is None:
            shows = await self.shows.shows(channel, FRESH)
            found = next((one for one in shows if one.id == show), None)
            if found is None:
                return None
            made = {**await report(channel, found, latest_before(found, shows), self.events), "channel": stored.name}
            self._keep(channel, show, made)
        return made

    def _known(self, channel: str, show: str) -> Any:
        at, value = self._kept.get((channel, show)) or (float("-inf"), None)
        return value if self.clocks.monotonic() - at < _KEPT else None

    def _keep(self, channel: str, show: str, value: Any) -> None:
        self._kept[channel, show] = self.clocks.monotonic(), value
