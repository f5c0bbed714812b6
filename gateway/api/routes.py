"""The routes of the admin listener in one table, the source of both the application and openapi.json."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from gateway.api import (
    broadcast,
    channel_fields,
    channels,
    console,
    domains,
    health,
    ivs,
    jobs,
    kinesis_upload,
    login,
    logs,
    media,
    metrics,
    nms,
    nodes,
    oidc,
    outputs,
    recordings,
    servers,
    sessions,
    status,
    uploads,
    user_profile,
    users,
)
from gateway.api.answers import answer_middleware, answer_text, bound_lines, json_text
from gateway.api.auth import auth_middleware
from gateway.api.context import CONTEXT, Context
from gateway.api.pending_sign_ins import PendingSignIns
from gateway.api.route import Route
from gateway.lib.attempt_limiter import AttemptLimiter


@dataclass(slots=True)
class _Description:
    text: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_DESCRIBED: Final = web.AppKey("openapi", _Description)


async def openapi(request: web.Request) -> web.Response:
    """Returns the description of all routes. It is made once, in a thread."""
    described = request.app[_DESCRIBED]
    async with described.lock:
        if not described.text:
            described.text = await asyncio.to_thread(_describe, request.app[CONTEXT].version)
    return answer_text(described.text)


def _describe(version: str) -> str:
    from gateway.api.openapi import document  # imported here, because it builds models that nothing else needs

    return json_text(document(ROUTES, version))


_QR = (("url", "push (default), page (a player page), flv, wsflv, rtmp, hls, cmaf, dash or ladder"),)

_PAGE = (("limit", "how many, 1 to 1000 (100)"), ("before", "the id of a job: only older ones"))
_SIGNED = (("expires", "from the address"), ("sign", "from the address"))


def _tagged(tag: str, *routes: Route, also: tuple[int, ...] = ()) -> Iterator[Route]:
    """Yields the routes of one tag. also: refusals that all of them have."""
    return (replace(route, tag=tag, also=route.also + also) for route in routes)


ROUTES: Final = (
    *_tagged(
        "Channels",
        Route(
            "POST",
            "/videostream",
            channels.create,
            "Create a channel and its stream key",
            "Channel",
            body="NewChannel",
            also=(413,),
        ),
        Route("GET", "/videostream", channels.index, "List the channels", "Channels"),
        Route("GET", "/videostream/{id}", channels.show, "Show a channel", "Channel"),
        Route(
            "PUT",
            "/videostream/{id}",
            channels.update,
            "Change fields of a channel; a new outdate makes a new key",
            "Channel",
            body="ChannelChanges",
            also=(413,),
        ),
        Route(
            "DELETE",
            "/videostream/{id}",
            channels.delete,
            "Delete a channel and end its push; keep or delete its media",
            "Deleted",
            query=channels.DELETE_QUERY,
        ),
        Route(
            "GET",
            "/videostream/{id}/qr",
            channels.qr,
            "An address of the channel as a QR code",
            "image/svg+xml",
            query=_QR,
        ),
    ),
    *_tagged(
        "Sessions",
        Route("GET", "/videostream/{id}/session", sessions.show, "Show the live session of a channel", "Session"),
        Route("DELETE", "/videostream/{id}/session", sessions.kick, "End the push and its viewers", "Session"),
        Route("GET", "/videostreams/online", sessions.online, "The sessions of all live channels", "Sessions"),
        Route(
            "POST",
            "/videostream/{id}/outputs/{name}",
            sessions.switch,
            "Turn an output of a live stream on or off",
            "Output",
            body="Switch",
            also=(409,),
        ),
    ),
    *_tagged(
        "Recordings",
        Route(
            "GET",
            "/videostream/{id}/recordings",
            recordings.index,
            "List the recordings of a channel, the newest first",
            "Recordings",
            query=recordings.PAGE_QUERY,
        ),
        Route(
            "DELETE",
            "/videostream/{id}/recordings/{path:.+}",
            recordings.delete,
            "Delete a recording; an on-demand session with its segments",
            "DeletedRecording",
            also=(409,),
        ),
        Route(
            "GET",
            "/media",
            media.index,
            "List the media of deleted channels, or of one channel",
            "Media",
            also=(503,),
            query=media.PAGE_QUERY,
        ),
        Route(
            "GET",
            "/media/channels",
            media.channels,
            "List the deleted channels whose media are kept",
            "MediaChannels",
            also=(503,),
        ),
        Route(
            "DELETE",
            "/media",
            media.delete,
            "Delete the media of a deleted channel, or one recording of it",
            "DeletedMedia",
            also=(202, 404, 409, 503),
            query=media.RECORDING_QUERY,
        ),
    ),
    *_tagged(
        "Jobs",
        Route(
            "POST",
            "/jobs",
            jobs.submit,
            "Make HLS, a poster and a thumbnail of a film",
            "Job",
            body="NewJob",
            status=202,
        ),
        Route("GET", "/jobs", jobs.index, "List the jobs, the newest first", "Jobs", query=_PAGE),
        Route("GET", "/jobs/{id}", jobs.show, "Show a job", "Job"),
        Route("DELETE", "/jobs/{id}", jobs.cancel, "Cancel a job", "Job", also=(409,)),
        Route(
            "POST",
            "/uploads",
            uploads.offer,
            "Get an address to which a film can be uploaded",
            "Upload",
            body="NewUpload",
        ),
        Route(
            "PUT",
            "/uploads/{key}",
            uploads.receive,
            "Upload a film to such an address; it becomes a job",
            "Uploaded",
            also=(400, 403, 404, 409, 413, 507),
            query=_SIGNED,
            public=True,
            status=201,
        ),
        Route(
            "POST",
            "/processObject",
            kinesis_upload.process_object,
            "Play a stored object into a Kinesis video stream",
            "Processed",
            body="ProcessObject",
            also=(202, 404, 409, 413, 422, 502),
        ),
        also=(503,),
    ),
    *_tagged(
        "Node",
        Route("GET", "/domains", domains.show, "The push and pull domains", "Domains"),
        Route("PUT", "/domains", domains.update, "Set the push and pull domains", "Domains", body="DomainChanges"),
    ),
    *_tagged(
        "Amazon IVS",
        Route(
            "GET",
            "/getServers",
            broadcast.servers,
            "The two servers of the original's browser client",
            "BroadcastServers",
            also=(503,),
            public=True,
        ),
    ),
    *_tagged(
        "Node",
        Route("GET", "/fields", channel_fields.index, "The fields that a channel can have", "FormFields"),
        Route("GET", "/outputs", outputs.index, "The outputs that a stream can have", "KnownOutputs"),
        Route("GET", "/servers", servers.servers, "The live gateways, the preferred one first", "Servers"),
        Route("GET", "/nodes", nodes.index, "All nodes that share the streams", "Nodes"),
        Route("GET", "/metrics", metrics.show, "Metrics for Prometheus", "text/plain"),
        Route("GET", "/openapi.json", openapi, "This description", "OpenApi"),
        Route("GET", "/healthcheck", health.healthcheck, "Whether the process answers", "text/plain", public=True),
        Route(
            "GET",
            "/ready",
            health.ready,
            "Whether the node can take work",
            "Ready",
            also=(503,),
            public=True,
            said=((503, "Ready"),),
        ),
        Route("GET", "/status", status.show, "The node's health: machine, traffic, what is missing", "Status"),
        Route("GET", "/log", logs.show, "The log's level", "LogLevel"),
        Route("PUT", "/log", logs.update, "Change the log's level until the next start", "LogLevel", body="LogLevel"),
    ),
    *_tagged(
        "Console",
        Route("GET", "/login", login.show, "The signed-in user, and the ways to sign in", "LoginState", public=True),
        Route(
            "POST",
            "/login",
            login.sign_in,
            "Sign in with the admin token, or a user's name and password",
            "LoginState",
            body="NewLogin",
            also=(401, 403, 413, 429, 503),
            public=True,
        ),
        Route("POST", "/logout", login.sign_out, "Sign out", "LoginState"),
        Route(
            "GET",
            "/oidc/start",
            oidc.start,
            "Go to the sign-in provider",
            "text/html",
            also=(404, 503),
            public=True,
            status=302,
            said=((503, "text/html"),),
        ),
        Route(
            "GET",
            "/oidc/callback",
            oidc.callback,
            "Return from the sign-in provider",
            "text/html",
            also=(403, 404, 429, 503),
            query=(("code", "from the provider"), ("state", "from the provider"), ("error", "from the provider")),
            public=True,
            status=303,
            said=((403, "text/html"), (429, "text/html"), (503, "text/html")),
        ),
        Route("GET", "/profile", user_profile.show, "Show the profile of the signed-in user", "Profile", also=(503,)),
        Route(
            "PUT",
            "/profile",
            user_profile.update,
            "Replace the profile of the signed-in user; nobody else can read it",
            "Profile",
            body="Profile",
            also=(413, 503),
        ),
        Route("GET", "/users", users.index, "List the users of the console", "Users", also=(503,)),
        Route("POST", "/users", users.create, "Create a user", "User", body="NewUser", also=(409, 503)),
        Route(
            "PUT",
            "/users/{name}",
            users.update,
            "Set a user's password, which ends the user's sessions",
            "User",
            body="NewPassword",
            also=(503,),
        ),
        Route(
            "DELETE",
            "/users/{name}",
            users.delete,
            "Delete a user with sessions and profile",
            "DeletedUser",
            also=(503,),
        ),
    ),
    *_tagged(
        "Amazon IVS",
        Route("GET", "/ivs/channels", ivs.index, "List the IVS channels of the region", "IvsChannels"),
        Route(
            "POST",
            "/ivs/channels",
            ivs.create,
            "Create an IVS channel; only this answer shows its key",
            "NewIvsChannel",
            body="IvsChannelWanted",
            also=(409,),
        ),
        Route(
            "DELETE",
            "/ivs/channels/{arn:.+}",
            ivs.delete,
            "Delete an IVS channel and its keys",
            "DeletedIvsChannel",
            also=(400, 409),
        ),
        also=(502, 503),
    ),
    *_tagged(
        "Console",
        Route("GET", "/", console.index, "The console", "text/html", public=True),
        Route("GET", "/docs", console.docs, "A page that shows this description", "text/html", public=True),
        Route(
            "GET", "/broadcast.json", console.push_ports, "The ports for pushes from pages", "PushPorts", public=True
        ),
        Route(
            "GET",
            "/console/broadcast.html",
            console.broadcaster,
            "A page that goes live from a camera",
            "text/html",
            public=True,
        ),
        Route(
            "GET",
            "/console/{path:.+}",
            console.file,
            "Files of the pages",
            "application/octet-stream",
            also=(404,),
            public=True,
        ),
        Route(
            "GET",
            "/_player/{path:.+}",
            console.file,
            "Files of the pages, at their addresses on the playback listener",
            "application/octet-stream",
            also=(404,),
            public=True,
        ),
    ),
    *_tagged(
        "node-media-server",
        Route("GET", "/api/server", nms.server, "Machine, traffic and clients", "NmsServer"),
        Route("GET", "/api/streams", nms.streams, "The live streams", "NmsStreams"),
        Route("GET", "/api/streams/{app}/{id}", nms.stream, "One stream", "NmsStream"),
    ),
)


async def _close_provider(app: web.Application) -> None:
    if (provider := app[CONTEXT].people.provider) is not None:
        await provider.close()


def make_app(context: Context) -> web.Application:
    """Makes the admin application. Serve it with `access_log=None`, because it logs refusals itself."""
    app = web.Application(
        middlewares=[
            answer_middleware,
            auth_middleware(context, frozenset((r.method, r.path) for r in ROUTES if r.public)),
        ],
        client_max_size=context.limits.body,
    )
    app[CONTEXT] = context
    app[oidc.PENDING], app[oidc.RETURNS] = PendingSignIns(context.secrets), AttemptLimiter(oidc.MAX_CONCURRENT)
    app[_DESCRIBED] = _Description()
    bound_lines(app)
    app.on_cleanup.append(_close_provider)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)  # includes HEAD
        else:
            app.router.add_route(route.method, route.path, route.handler)
    return app
