"""The history of a channel or of the node, over the processes and nodes that have a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import BadRequest, answer
from gateway.api.context import CONTEXT, Context
from gateway.api.sessions import unanswered_nodes_header
from gateway.channels.names import is_channel_id
from gateway.diagnosis.history import RESOLUTIONS, Point, merged
from gateway.diagnosis.recorder import Recorder
from gateway.lib.numbers import read_decimal

QUERY: Final = (
    ("channel", "a channel's id; without it: the node"),
    ("hours", "up to 24 (24); the points have a step of 5 s for 10 minutes, 1 min for 3 hours, else 5 min"),
    ("nodes", "all: the sum of all gateways, for the node's history"),
)
NODE: Final = "-"  # stands for the node itself in the place of a channel, between nodes
MAX_SECONDS: Final = RESOLUTIONS[-1].span
_UNKNOWN: Final = (math.nan, math.nan, math.nan)
_MAX_VALUE: Final = 1e300


def local_points(recorder: Recorder, channel: str, seconds: float) -> list[list[Any]]:
    """Returns this process's points of a channel; "": of the process. As JSON: [time, {series: [avg, min, max]}]."""
    timeline = recorder.history.channel(channel) if channel else recorder.history.node
    return [] if timeline is None else _as_json(timeline.points(recorder.now(), seconds)[1])


async def show(request: web.Request) -> web.Response:
    """Returns the values of the last hours. A channel that was never live here has no points."""
    context = request.app[CONTEXT]
    channel, hours = request.query.get("channel", ""), request.query.get("hours", "24")
    seconds = math.ceil((read_decimal(hours, MAX_SECONDS / 3600) or 0) * 3600)
    if not seconds:
        raise BadRequest("expected a number of hours, up to 24", field="hours")
    if channel and not is_channel_id(channel):
        raise BadRequest("expected the id of a channel", field="channel")
    recorder = context.recorder
    now = recorder.now()
    reported = await context.cluster.everywhere(f"history/{seconds}/{channel or NODE}")
    wanted = _is_wanted(context, bool(channel) or request.query.get("nodes") == "all")
    parts = [_points(local_points(recorder, channel, seconds))]
    parts += [_points(item.get("points")) for node, items in reported.answers.items() if wanted(node) for item in items]
    step = next(r.step for r in RESOLUTIONS if r.span >= seconds)
    points = merged([part for part in parts if part], step, now, _channel_rule if channel else _node_rule)
    body = {"from": int(now - seconds), "to": int(now), "step": step, **_columns(points)}
    return answer(body, headers=unanswered_nodes_header([node for node in reported.silent if wanted(node)]))


def _is_wanted(context: Context, all_nodes: bool) -> Callable[[str], bool]:
    """Returns whether a node's part counts: of all nodes, or only of the processes of this host."""
    host = context.cluster.node.partition(".")[0]
    return lambda node: all_nodes or node.partition(".")[0] == host


def _channel_rule(series: str) -> Callable[..., float]:
    return max  # only one node at a time has a channel; the parts meet where it moved


def _node_rule(series: str) -> Callable[..., float]:
    return max if series == "lag" else sum


def _as_json(points: Sequence[Point]) -> list[list[Any]]:
    return [[at, {name: [_rounded(v) for v in triple] for name, triple in values.items()}] for at, values in points]


def _rounded(value: float) -> float | None:
    return round(value, 4 if abs(value) < 100 else 1) if math.isfinite(value) else None


def _points(value: Any) -> list[Point]:
    """Reads the points of a node. Skips what has another form, which another version may send."""
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
    return [_rounded(value) for value in column]
