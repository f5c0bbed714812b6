"""The history of a channel or of the node, of which other processes and nodes may have a part. The traffic by day."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT, Context
from gateway.api.route import operation
from gateway.api.sessions import unanswered_nodes_header
from gateway.channels.names import is_channel_id
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.diagnosis.history import MAX_SECONDS, RESOLUTIONS, Point, merged, rounded
from gateway.diagnosis.recorder import NODE, Recorder
from gateway.lib.numbers import read_decimal

TRAFFIC: Final = web.AppKey("traffic", DailyTraffic)
RECORDER: Final = web.AppKey("recorder", Recorder)

QUERY: Final = (
    ("channel", "a channel's id; without it: the node"),
    ("hours", "at most 24 (default 24); the step is 5 s up to 10 minutes, 1 min up to 3 hours, else 5 min"),
    ("nodes", "all: the sum of all gateways, for the node's history"),
)
_UNKNOWN: Final = (math.nan, math.nan, math.nan)  # average, minimum and maximum of a point without values
_MAX_VALUE: Final = 1e300


@operation(session_schemas.History, query=QUERY)
async def show(request: web.Request) -> web.Response:
    """The last 24 hours of a channel or of the node.

    A channel that was never live here has no points.
    """
    context = request.app[CONTEXT]
    channel, hours = request.query.get("channel", ""), request.query.get("hours", "24")
    seconds = math.ceil((read_decimal(hours, MAX_SECONDS / 3600) or 0) * 3600)
    if not seconds:
        raise BadRequest("expected a number of hours, up to 24", field="hours")
    if channel and not is_channel_id(channel):
        raise BadRequest("expected the id of a channel", field="channel")
    recorder = request.app[RECORDER]
    now = recorder.now()
    reported = await context.cluster.ask_all(f"history/{seconds}/{channel or NODE}")
    wanted = _node_filter(context, bool(channel) or request.query.get("nodes") == "all")
    parts = [_points(recorder.points(channel, seconds))]
    parts += [_points(item.get("points")) for node, items in reported.answers.items() if wanted(node) for item in items]
    step = next(r.step for r in RESOLUTIONS if r.span >= seconds)
    points = merged([part for part in parts if part], step, now, _channel_rule if channel else _node_rule)
    body = {"from": int(now - seconds), "to": int(now), "step": step, **_columns(points)}
    return answer(body, headers=unanswered_nodes_header([node for node in reported.silent if wanted(node)]))


def _node_filter(context: Context, all_nodes: bool) -> Callable[[str], bool]:
    """Returns a function that returns whether the answer has the values of a node, by its id.

    all_nodes: True: the values of every node; False: only those of the processes of this host.
    """
    host = context.cluster.node.partition(".")[0]
    return lambda node: all_nodes or node.partition(".")[0] == host


def _channel_rule(series: str) -> Callable[..., float]:
    """Returns the function that merges the values of several nodes in one series of a channel."""
    # Only one node at a time has a channel. While the channel moves to another node, both may have values.
    return max


def _node_rule(series: str) -> Callable[..., float]:
    """Returns the function that merges the values of several nodes in one series of the node."""
    return max if series == "lag" else sum


def _points(value: Any) -> list[Point]:
    """Reads the points of a node. Skips values of another form, which a node of another version may send."""
    return list(_read(value)) if isinstance(value, list) else []


def _read(values: list[Any]) -> Iterator[Point]:
    for item in values:
        match item:
            case [int(at), dict(series)]:
                known = {name: t for name, t in series.items() if _is_triple(t)}
                yield at, {str(name): (float(t[0]), float(t[1]), float(t[2])) for name, t in known.items()}


def _is_triple(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return all(type(v) in (int, float) and abs(v) < _MAX_VALUE for v in value)


def _columns(points: Sequence[Point]) -> dict[str, Any]:
    """Returns times, and for each series the averages, minimums and maximums. null: unknown."""
    names = sorted({name for _, values in points for name in values})
    series = {}
    for name in names:
        average, low, high = zip(*(values.get(name, _UNKNOWN) for _, values in points), strict=True)
        series[name] = {"avg": _numbers(average), "min": _numbers(low), "max": _numbers(high)}
    return {"times": [at for at, _ in points], "series": series}


def _numbers(column: Iterable[float]) -> list[float | None]:
    return [rounded(value) for value in column]


@operation(session_schemas.TrafficByDay, statuses=(503,))
async def channel_traffic(request: web.Request) -> web.Response:
    """The bytes of a channel on each of the last 31 days.

    On all nodes; those of other processes are up to two minutes old.
    """
    return await _answer_traffic(request, (await stored_channel(request)).id)


@operation(session_schemas.TrafficByDay, statuses=(503,))
async def traffic(request: web.Request) -> web.Response:
    """The bytes of all channels on each of the last 31 days.

    Deleted channels are included.
    """
    return await _answer_traffic(request, "")


async def _answer_traffic(request: web.Request, channel: str) -> web.Response:
    days = await request.app[TRAFFIC].by_day(channel)
    return answer({"days": [{"day": day, "in": received, "out": sent} for day, received, sent in days]})
