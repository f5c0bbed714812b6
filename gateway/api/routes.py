"""The routes of the admin listener: one table, from which both the application and openapi.json are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api import channels, domains, health, jobs, nms, process, recordings, sessions, uploads
from gateway.api.answers import answer, answering
from gateway.api.auth import authenticating
from gateway.api.context import CONTEXT, Context


@dataclass(frozen=True, slots=True)
class Route:
    """body, answer: names in gateway.api.schemas, or a media type where no JSON is sent. also: further statuses.

    status: of success.

    query: `name: what it is`. public: needs no token.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    answer: str
    body: str | None = None
    also: tuple[int, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    public: bool = False
    status: int = 200


async def openapi(request: web.Request) -> web.Response:
    """The description of everything in the table."""
    from gateway.api.openapi import document  # builds models that nothing else needs

    return answer(document(request.app[CONTEXT].version))


_QR = (("url", "push (default), flv, wsflv, rtmp, hls, cmaf, dash or ladder"),)

_PAGE = (("limit", "how many, 1 to 1000 (100)"), ("before", "the id of a job: only older ones"))
_SIGNED = (("expires", "from the address"), ("sign", "from the address"))

ROUTES: Final = (
    Route(
        "POST",
        "/videostream",
        channels.create,
        "Channels",
        "Create a channel and its stream key",
        "Channel",
        body="NewChannel",
        also=(413,),
    ),
    Route("GET", "/videostream", channels.index, "Channels", "List the channels", "Channels"),
    Route("GET", "/videostream/{id}", channels.show, "Channels", "Show a channel", "Channel"),
    Route(
        "PUT",
        "/videostream/{id}",
        channels.update,
        "Channels",
        "Change fields of a channel; a new outdate makes a new key",
        "Channel",
        body="ChannelChanges",
        also=(413,),
    ),
    Route("DELETE", "/videostream/{id}", channels.delete, "Channels", "Delete a channel and end its push", "Deleted"),
    Route(
        "GET",
        "/videostream/{id}/qr",
        channels.qr,
        "Channels",
        "An address of the channel as a QR code",
        "image/svg+xml",
        query=_QR,
    ),
    Route("GET", "/videostream/{id}/session", sessions.show, "Sessions", "What is live of a channel", "Session"),
    Route("DELETE", "/videostream/{id}/session", sessions.kick, "Sessions", "End the push and its viewers", "Session"),
    Route("GET", "/videostreams/online", sessions.online, "Sessions", "The sessions of all live channels", "Sessions"),
    Route(
        "POST",
        "/videostream/{id}/outputs/{name}",
        sessions.switch,
        "Sessions",
        "Turn an output of a live stream on or off",
        "Output",
        body="Switch",
        also=(409,),
    ),
    Route(
        "GET",
        "/videostream/{id}/recordings",
        recordings.index,
        "Recordings",
        "List the recordings of a channel, the newest first",
        "Recordings",
        query=recordings.PAGE,
    ),
    Route(
        "DELETE",
        "/videostream/{id}/recordings/{path:.+}",
        recordings.delete,
        "Recordings",
        "Delete a recording; an on-demand session with its segments",
        "DeletedRecording",
        also=(409,),
    ),
    Route(
        "POST",
        "/jobs",
        jobs.submit,
        "Jobs",
        "Make HLS, a poster and a thumbnail of a film",
        "Job",
        body="NewJob",
        also=(503,),
        status=202,
    ),
    Route("GET", "/jobs", jobs.index, "Jobs", "List the jobs, the newest first", "Jobs", also=(503,), query=_PAGE),
    Route("GET", "/jobs/{id}", jobs.show, "Jobs", "Show a job", "Job", also=(503,)),
    Route("DELETE", "/jobs/{id}", jobs.cancel, "Jobs", "Cancel a job", "Job", also=(409, 503)),
    Route(
        "POST",
        "/uploads",
        uploads.offer,
        "Jobs",
        "Get an address to which a film can be uploaded",
        "Upload",
        body="NewUpload",
        also=(503,),
    ),
    Route(
        "PUT",
        "/uploads/{key}",
        uploads.receive,
        "Jobs",
        "Upload a film to such an address; it becomes a job",
        "Uploaded",
        also=(400, 403, 404, 409, 413, 503, 507),
        query=_SIGNED,
        public=True,
        status=201,
    ),
    Route(
        "POST",
        "/processObject",
        process.process,
        "Jobs",
        "Play a stored object into a Kinesis video stream",
        "Processed",
        body="ProcessObject",
        also=(202, 404, 409, 413, 422, 502, 503),
    ),
    Route("GET", "/domains", domains.show, "Node", "The push and pull domains", "Domains"),
    Route("PUT", "/domains", domains.update, "Node", "Set the push and pull domains", "Domains", body="DomainChanges"),
    Route("GET", "/servers", domains.servers, "Node", "The live nodes", "Servers"),
    Route("GET", "/metrics", health.metrics, "Node", "Measurements for Prometheus", "text/plain"),
    Route("GET", "/openapi.json", openapi, "Node", "This description", "OpenApi"),
    Route("GET", "/healthcheck", health.healthcheck, "Node", "Whether the process answers", "text/plain", public=True),
    Route("GET", "/ready", health.ready, "Node", "Whether the node can take work", "Ready", also=(503,), public=True),
    Route("GET", "/", health.home, "Node", "A page that says what this is", "text/html", public=True),
    Route("GET", "/api/server", nms.server, "node-media-server", "Machine, traffic and clients", "NmsServer"),
    Route("GET", "/api/streams", nms.streams, "node-media-server", "The live streams", "NmsStreams"),
    Route("GET", "/api/streams/{app}/{id}", nms.stream, "node-media-server", "One stream", "NmsStream"),
)


def make_app(context: Context) -> web.Application:
    """The admin application; serve it with `access_log=None`, refusals are logged here."""
    public = frozenset(route.path for route in ROUTES if route.public)
    app = web.Application(
        middlewares=[
            answering,
            authenticating(context.verify_token, context.limits.refusals_per_minute, public),
        ],
        client_max_size=context.limits.body,
    )
    app[CONTEXT] = context
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)  # HEAD too
        else:
            app.router.add_route(route.method, route.path, route.handler)
    return app
