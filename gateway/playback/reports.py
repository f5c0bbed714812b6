"""Takes the reports of viewers: `POST /<id>/report`, a few lines of CMCD from pages and players."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.channels.names import channel_of
from gateway.diagnosis import cmcd
from gateway.diagnosis.experience import PROTOCOLS, Experience
from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.lib.metrics import Counter
from gateway.lib.refusals import Refusals

PATH: Final = "report"
MAX_BYTES: Final = 1024
MAX_LINES: Final = 8
PER_MINUTE: Final = 600  # reports of one address; a page sends two a minute, and many viewers may share an address
_BODY_SECONDS: Final = 10.0
_TAKEN: Final = Response(204, None)
_MALFORMED: Final = text(400, "not a report: a line of CMCD with a session id (sid) is expected")
_FORMATS: Final = {"h": "hls", "d": "dash"}


class ViewerReports:
    """Reads reports into `experience`. The router has checked that the stream is live and the viewer may play it.

    is_held(name): whether another node holds a stream. Raises StoreUnavailable, AtCapacity. None: no other nodes.
    counter: counts reports by kind.
    """

    def __init__(
        self,
        experience: Experience,
        counter: Counter,
        is_held: Callable[[str], Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_held = is_held
        self._experience = experience
        self._counter = counter
        self._clock = clock
        self._limit = Refusals(PER_MINUTE)

    def read(self, request: Request, name: str) -> Answer:
        """Answers a report for a stream: 204, or the reason why it was not read."""
        if not request.exempt and (seconds := self._limit.add(request.peer, self._clock())):
            self._counter.add("limited")
            return service_unavailable("too many reports from this address", seconds, 429)
        return read_body(request, MAX_BYTES, _BODY_SECONDS, lambda body: self._take(channel_of(name), body))

    def _take(self, channel: str, body: bytes) -> Response:
        found = [cmcd.parse(line) for line in body.decode("utf-8", "replace").splitlines()[:MAX_LINES]]
        reports = [report for report in found if report is not None]
        if not reports:
            self._counter.add("malformed")
            return _MALFORMED
        for report in reports:
            self._experience.add(channel, _known(report.protocol or _FORMATS.get(report.format, "")), report)
            self._counter.add("page")
        return _TAKEN


class RequestReports:
    """Reads the CMCD of players' requests for playlists and media."""

    _ALWAYS: Final = 40  # requests of a player after its start that are all read
    _EVERY: Final = 10  # after that every tenth one, and all that tell of a start or an empty buffer

    def __init__(self, experience: Experience, counter: Counter) -> None:
        self._experience = experience
        self._counter = counter

    def read(self, request: Request, name: str, protocol: str, number: int) -> None:
        """Reads the data of a request that has any. number: of the player's requests so far. Hot path.

        protocol: that of the file; the player's own data distinguish DASH from HLS.
        """
        query, headers = request.raw_query, request.headers
        if number > self._ALWAYS and number % self._EVERY and not cmcd.is_news(query, headers):
            return
        data = cmcd.of_query(query) if "CMCD=" in query else cmcd.of_headers(headers)
        if data is not None:
            protocol = "dash" if data.format == "d" and protocol == "cmaf" else protocol
            self._experience.add(channel_of(name), _known(protocol), data)
            self._counter.add("request")


def _known(protocol: str) -> str:
    return protocol if protocol in PROTOCOLS else "other"
