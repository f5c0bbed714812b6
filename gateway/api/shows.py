"""The shows of a channel: their list, the report of one as JSON and as CSV, and a signed link to it."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.api import show_schemas
from gateway.api.answers import BadRequest, Missing, answer
from gateway.api.body import read
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.events import EVENT_LOG
from gateway.api.moments import page_limit, read_moment
from gateway.api.route import operation
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, report_name
from gateway.diagnosis.show import Show
from gateway.diagnosis.show_log import ShowLog
from gateway.diagnosis.show_report import as_csv, figures, latest_before, report
from gateway.lib.rfc3339 import rfc3339

SHOWS: Final = web.AppKey("shows", ShowLog)
QUERY: Final = (
    ("before", "the id of a show, or a time in ISO form: only earlier ones"),
    ("limit", "the number of shows, 1 to 500 (default 100)"),
)
_MAX_LIMIT: Final = 500
_DAY: Final = 86_400


@operation(list[show_schemas.Show], statuses=(503,), query=QUERY)
async def index(request: web.Request) -> web.Response:
    """The shows of a channel, the newest first.

    A show is a stream from its first push to its end. Its id is its start in milliseconds since 1970.
    """
    channel = await stored_channel(request)
    limit = page_limit(request.query.get("limit", "100"), _MAX_LIMIT)
    before = request.query.get("before", "")
    end = read_moment(before, "before", "the id of a show, ") if before else None
    shows = [one for one in await request.app[SHOWS].shows(channel.id) if end is None or one.start < end]
    url = await _page_of(request, channel)
    return answer([{**figures(one), "url": url(one)} for one in shows[:limit]])


@operation(show_schemas.ShowReport, statuses=(503,), query=(("format", "json (default) or csv"),))
async def show(request: web.Request) -> web.Response:
    """The report of a show.

    It compares the show with the one before. As CSV, each line has a name and a value.
    """
    form = request.query.get("format", "json")
    if form not in ("json", "csv"):
        raise BadRequest("expected json or csv", field="format")
    channel = await stored_channel(request)
    found, before = await _find(request, channel)
    url = await _page_of(request, channel)
    made = {**await report(channel.id, found, before, request.app[EVENT_LOG]), "url": url(found)}
    if form == "json":
        return answer(made)
    name = f'attachment; filename="show-{found.id}.csv"'
    headers = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": name}
    return web.Response(body=as_csv(made).encode(), headers=headers)


@operation(show_schemas.Share, body=show_schemas.NewShare, statuses=(503,))
async def share(request: web.Request) -> web.Response:
    """Make a link to the report of a show, for people without a login.

    The link shows this report and nothing else. It is valid for `days`, and until the channel gets a new stream key.
    """
    context = request.app[CONTEXT]
    wanted = await read(request, show_schemas.NewShare) if request.body_exists else show_schemas.NewShare()
    channel = await stored_channel(request)
    found, _ = await _find(request, channel)
    expires = int(context.clock()) + wanted.days * _DAY
    sign = context.secrets.sign(report_name(channel.id, channel.key, found.id), expires, SignatureUse.REPORT)
    presenter = await context.presenter(request)
    url = f"{presenter.addresses.pull}/{channel.id}/report.html?show={found.id}&sign={sign}"
    return answer({"url": url, "expires": rfc3339(expires)})


async def _find(request: web.Request, channel: Channel) -> tuple[Show, Show | None]:
    """Returns the show in the path, and the one before. Raises Missing, StoreUnavailable."""
    id = request.match_info["show"]
    shows = await request.app[SHOWS].shows(channel.id)
    found = next((one for one in shows if one.id == id), None)
    if found is None:
        raise Missing(f"the channel has no show {id[:64]}")
    return found, latest_before(found, shows)


async def _page_of(request: web.Request, channel: Channel) -> Callable[[Show], str | None]:
    """Returns the function that returns the page of a show's recorded session; None if it was not recorded."""
    context = request.app[CONTEXT]
    presenter = await context.presenter(request)
    base, query = (
        f"{presenter.addresses.pull}/{channel.id}/vod/",
        presenter.play_query(channel, context.clock()),
    )

    def page(show: Show) -> str | None:
        return f"{base}{show.session}/{query}" if show.session is not None else None

    return page
