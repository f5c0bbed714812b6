"""Takes the reports of viewers: `POST /<id>/report`, a few lines of CMCD from pages and players."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.channels.names import channel_of
from gateway.diagnosis import cmcd
from gateway.diagnosis.experience import PROTOCOLS, Experience
from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.lib.metrics import Counter

PATH: Final = "report"
MAX_BYTES: Final = 1024
MAX_LINES: Final = 8
_BODY_SECONDS: Final = 10.0
TAKEN: Final = Response(204, None)
_MALFORMED: Final = text(400, "not a report: a line of CMCD with a session id (sid) is expected")
_LIMITED: Final = service_unavailable("too many reports from this address", 1, 429)
_FORMATS: Final = {"h": "hls", "d": "dash"}


@dataclass(frozen=True, slots=True)
class ViewerReports:
    """Reads reports into `experience`. The router has checked that the stream is live and the viewer may play it.

    is_held(name): whether another node holds a stream. Raises StoreUnavailable, AtCapacity. None: no other nodes.
    counter: counts reports by kind.
    """

    experience: Experience
    counter: Counter
    is_held: Callable[[str], Awaitable[bool]] | None = None

    def read(self, request: Request, name: str) -> Answer:
        """Answers a report for a stream: 204, or the reason why it was not read."""
        return read_body(request, MAX_BYTES, _BODY_SECONDS, lambda body: self._take(request, channel_of(name), body))

    def _take(self, request: Request, channel: str, body: bytes) -> Response:
        found = [cmcd.parse(line) for line in body.decode("utf-8", "replace").splitlines()[:MAX_LINES]]
        reports = [report for report in found if report is not None]
        if not reports:
            self.counter.add("malformed")
            return _MALFORMED
        answer = _LIMITED
        for report in reports:
            if not request.exempt and not self.experience.count_report(request.peer):
                self.counter.add("limited")
                continue
            self.experience.add(channel, _known(report.protocol or _FORMATS.get(report.format, "")), report)
            self.counter.add("page")
            answer = TAKEN
        return answer


class RequestReports:
    """Reads the CMCD of players' requests for playlists and media."""

    _ALWAYS: Final = 40  # requests of a player after its start that are all read
    _EVERY: Final = 10  # later, every tenth request is read, and each one that reports a start or an empty buffer

    def __init__(self, experience: Experience, counter: Counter) -> None:
        self._experience = experience
        self._counter = counter

    def read(self, request: Request, name: str, protocol: str, number: int, began: float | None = None) -> None:
        """Reads the CMCD of a request. number: requests of the player with CMCD so far. Hot path.

        protocol: of the file. The CMCD distinguishes DASH from HLS.
        began: monotonic time of the player's first request; None if an earlier call has passed it.
        """
        query, headers = request.raw_query, request.headers
        if number > self._ALWAYS and number % self._EVERY and not cmcd.is_start_or_stall(query, headers):
            return
        data = cmcd.read_query(query) if "CMCD=" in query else cmcd.read_headers(headers)
        if data is None:
            return
        if not request.exempt and not self._experience.count_report(request.peer):
            self._counter.add("limited")
            return
        protocol = "dash" if data.format == "d" and protocol == "cmaf" else protocol
        self._experience.add(channel_of(name), _known(protocol), data, began)
        self._counter.add("request")


def _known(protocol: str) -> str:
    return protocol if protocol in PROTOCOLS else "other"
