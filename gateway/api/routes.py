"""The routes of the admin listener in one table, the source of both the application and openapi.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from aiohttp import web

from gateway.api import (
    channel_fields,
    channels,
    clips,
    cloudfront,
    console,
    document_route,
    domains,
    events,
    experience,
    films,
    history,
    inputs,
    ivs,
    ivs_parameters,
    jobs,
    key_servers,
    kinesis_upload,
    login,
    logs,
    media,
    nms,
    obs,
    oidc,
    qr_code,
    recordings,
    servers,
    sessions,
    status,
    uploads,
    users,
)
from gateway.api.answers import answer_middleware, limit_refusal_lines
from gateway.api.auth import auth_middleware
from gateway.api.context import CONTEXT, Context
from gateway.api.route import Route
from gateway.ports.users import Role

_BROADCASTER: Final = Role.BROADCASTER
_QR_QUERY = (("url", "push (default), page (a player page), flv, wsflv, rtmp, hls, cmaf, dash or ladder"),)

_PAGE_QUERY = (("limit", "the number of jobs, 1 to 1000 (100)"), ("before", "the id of a job: only older ones"))
_SIGNED_QUERY = (("expires", "from the address"), ("sign", "from the address"))


def _tagged(tag: str, *routes: Route, statuses: tuple[int, ...] = ()) -> Iterator[Route]:
    """Yields the routes of one tag. statuses: further statuses of all of them."""
    return (replace(route, tag=tag, statuses=route.statuses + statuses) for route in routes)


ROUTES: Final = (
    *_tagged(
        "Channels",
        Route(
            "POST /videostream",
            channels.create,
            "Create a channel and its stream key",
            "Channel",
            body="NewChannel",
            statuses=(413,),
        ),
        Route("GET /videostream", channels.index, "List the channels", "Channels", role=_BROADCASTER),
        Route("GET /videostream/{id}", channels.show, "Show a channel", "Channel", role=_BROADCASTER),
        Route(
            "PUT /videostream/{id}",
            channels.update,
            "Change fields of a channel; a new outdate makes a new key",
            "Channel",
            body="ChannelChanges",
            statuses=(413,),
        ),
        Route(
            "DELETE /videostream/{id}",
            channels.delete,
            "Delete a channel and end its push; keep or delete its media",
            "Deleted",
            query=channels.DELETE_QUERY,
        ),
        Route(
            "GET /videostream/{id}/qr",
            channels.qr,
            "An address of the channel as a QR code",
            "image/svg+xml",
            query=_QR_QUERY,
            role=_BROADCASTER,
        ),
        Route(
            "GET /videostream/{id}/obs-multitrack",
            obs.multitrack,
            "The configuration of OBS Multitrack Video for a channel",
            "ObsMultitrack",
            query=obs.QUERY,
            role=_BROADCASTER,
        ),
        Route(
            "PUT /videostream/{id}/relay",
            channels.set_relay,
            "Change only the relay of a channel",
            "Channel",
            body="RelayChanges",
            statuses=(413,),
            role=_BROADCASTER,
        ),
        Route(
            "POST /videostream/{id}/cloudfront",
            cloudfront.sign_channel,
            "Sign the play addresses of a channel for CloudFront",
            "SignedAddresses",
            body="ToSignOfChannel",
        ),
        Route(
            "POST /cloudfront",
            cloudfront.sign,
            "Sign one address for CloudFront, such as that of a video on demand",
            "SignedAddress",
            body="ToSign",
            statuses=(404,),
        ),
    ),
    *_tagged(
        "Sessions",
        Route(
            "GET /videostream/{id}/session",
            sessions.show,
            "Show the live session of a channel",
            "Session",
            role=_BROADCASTER,
        ),
        Route(
            "GET /videostream/{id}/experience",
            experience.show,
            "What the viewers of a channel experience",
            "Experience",
        ),
        Route(
            "DELETE /videostream/{id}/session",
            sessions.end_session,
            "End the push and its viewers",
            "Session",
            role=_BROADCASTER,
        ),
        Route(
            "GET /videostream/{id}/inputs",
            inputs.show,
            "The inputs of a channel, with their states and push addresses",
            "Inputs",
            role=_BROADCASTER,
        ),
        Route(
            "PUT /videostream/{id}/inputs",
            inputs.update,
            "Replace the list of inputs of a channel",
            "Inputs",
            body="NewInputs",
        ),
        Route(
            "POST /videostream/{id}/inputs/{name}/take",
            inputs.take,
            "Put an input on air by hand",
            "Inputs",
            role=_BROADCASTER,
            statuses=(409,),
        ),
        Route(
            "DELETE /videostream/{id}/inputs/take",
            inputs.release,
            "Choose the input on air automatically again",
            "Inputs",
            role=_BROADCASTER,
        ),
        Route(
            "GET /videostream/{id}/inputs/{name}/preview",
            inputs.preview,
            "A picture of an input",
            "image/jpeg",
            role=_BROADCASTER,
        ),
        Route(
            "GET /videostreams/online",
            sessions.online,
            "The sessions of all live channels",
            "Sessions",
            role=_BROADCASTER,
        ),
        Route(
            "POST /videostream/{id}/outputs/{name}",
            sessions.switch,
            "Turn an output of a live stream on or off",
            "Output",
            body="Switch",
            statuses=(409,),
        ),
    ),
    *_tagged(
        "Recordings",
        Route(
            "GET /videostream/{id}/recordings",
            recordings.index,
            "List the recordings of a channel, the newest first",
            "Recordings",
            query=recordings.PAGE_QUERY,
            role=_BROADCASTER,
        ),
        Route(
            "DELETE /videostream/{id}/recordings/{path:.+}",
            recordings.delete,
            "Delete a recording; an on-demand session with its segments",
            "DeletedRecording",
            statuses=(409,),
        ),
        Route(
            "POST /videostream/{id}/clips",
            clips.create,
            "Make a clip of the last seconds or of a time range, also while live",
            "Clip",
            body="NewClip",
            status=201,
            statuses=(409, 429, 503),
            role=_BROADCASTER,
        ),
        Route(
            "GET /videostream/{id}/export",
            clips.export,
            "Download a time range as one MP4",
            "video/mp4",
            query=clips.EXPORT_QUERY,
            statuses=(409, 503),
            role=_BROADCASTER,
        ),
        Route(
            "GET /media",
            media.index,
            "List the media of deleted channels, or of one channel",
            "Media",
            statuses=(503,),
            query=media.PAGE_QUERY,
        ),
        Route(
            "GET /media/channels",
            media.channels,
            "List the deleted channels with stored media",
            "MediaChannels",
            statuses=(503,),
        ),
        Route(
            "DELETE /media",
            media.delete,
            "Delete the media of a deleted channel, or one recording of it",
            "DeletedMedia",
            statuses=(202, 404, 409, 503),
            query=media.RECORDING_QUERY,
        ),
    ),
    *_tagged(
        "Jobs",
        Route(
            "POST /jobs",
            jobs.submit,
            "Convert a video to HLS, with a poster and a thumbnail",
            "Job",
            body="NewJob",
            status=202,
        ),
        Route("GET /jobs", jobs.index, "List the jobs, the newest first", "Jobs", query=_PAGE_QUERY),
        Route("GET /jobs/{id}", jobs.show, "Show a job", "Job"),
        Route("DELETE /jobs/{id}", jobs.cancel, "Cancel a job", "Job", statuses=(409,)),
        Route(
            "POST /uploads",
            uploads.create_upload,
            "Get an address for the upload of a video, or of a picture for a slate",
            "Upload",
            body="NewUpload",
        ),
        Route(
            "PUT /uploads/{key}",
            uploads.receive,
            "Upload a file to this address; a video becomes a job",
            "Uploaded",
            statuses=(400, 403, 404, 409, 413, 507),
            query=_SIGNED_QUERY,
            public=True,
            status=201,
        ),
        Route(
            "GET /films",
            films.index,
            "List and search the videos on demand, the newest first",
            "Films",
            query=films.PAGE_QUERY,
        ),
        Route("GET /filmqr/{key:.+}", films.qr, "The address of a video's player page as a QR code", "image/svg+xml"),
        Route("GET /films/{key:.+}", films.show, "Show a video on demand", "Film"),
        Route(
            "PUT /films/{key:.+}",
            films.edit,
            "Change title and description",
            "Film",
            body="FilmChanges",
            statuses=(409,),
        ),
        Route(
            "DELETE /films/{key:.+}",
            films.delete,
            "Delete a video on demand with its files",
            "DeletedFilm",
            statuses=(202, 409),
        ),
        Route(
            "POST /processObject",
            kinesis_upload.process_object,
            "Send a stored object to a Kinesis video stream",
            "Processed",
            body="ProcessObject",
            statuses=(404, 413, 422, 502),
            other_answers=((202, "QueuedProcess"),),
            query=(("wait", "1 (default): until Kinesis has the first fragment, at most 50 s; 0: answers at once"),),
        ),
        statuses=(503,),
    ),
    *_tagged(
        "Node",
        Route("GET /domains", domains.show, "The push and pull domains", "Domains"),
        Route("PUT /domains", domains.update, "Set the push and pull domains", "Domains", body="DomainChanges"),
    ),
    *_tagged(
        "Amazon IVS",
        Route(
            "GET /getServers",
            servers.broadcast_servers,
            "The two push servers for the old system's browser client",
            "BroadcastServers",
            statuses=(503,),
            public=True,
        ),
        Route(
            "POST /putitens",
            ivs_parameters.store,
            "Store the IVS parameters of the signed-in user",
            "IvsParameters",
            body="IvsParameters",
            statuses=(413, 503),
            role=_BROADCASTER,
        ),
        Route(
            "GET /putitens/{username}",
            ivs_parameters.show,
            "Show the IVS parameters of the signed-in user",
            "IvsParametersItem",
            statuses=(403, 503),
            role=_BROADCASTER,
        ),
    ),
    *_tagged(
        "Node",
        Route("GET /fields", channel_fields.index, "The fields that a channel can have", "FormFields"),
        Route("GET /outputs", channel_fields.outputs, "The outputs that a stream can have", "KnownOutputs"),
        Route(
            "GET /servers",
            servers.servers,
            "The live gateways, the preferred one first",
            "Servers",
            role=_BROADCASTER,
        ),
        Route(
            "GET /_servers/{id}",
            key_servers.servers,
            "The live gateways, for a publisher that has only a stream key",
            "Servers",
            statuses=(403, 503),
            query=(("sign", "the stream key of the channel, <expiry>-<hash>"),),
            public=True,
        ),
        Route(
            "POST /qr",
            qr_code.create,
            "A text as a QR code",
            "QrCode",
            body="QrText",
            statuses=(413,),
            role=_BROADCASTER,
        ),
        Route(
            "GET /events",
            events.index,
            "What happened, the newest first",
            "Events",
            statuses=(503,),
            query=events.QUERY,
        ),
        Route("GET /nodes", status.nodes, "All nodes of the cluster", "Nodes"),
        Route(
            "GET /history",
            history.show,
            "The last 24 hours of a channel or of the node",
            "History",
            query=history.QUERY,
        ),
        Route("GET /metrics", status.metrics, "Metrics for Prometheus", "text/plain"),
        Route("GET /openapi.json", document_route.openapi, "This description", "OpenApi"),
        Route("GET /healthcheck", status.healthcheck, "Whether the process answers", "text/plain", public=True),
        Route(
            "GET /ready",
            status.ready,
            "Whether the node is ready for requests",
            "Ready",
            statuses=(503,),
            public=True,
            other_answers=((503, "Ready"),),
        ),
        Route("GET /status", status.show, "The node's health: machine, traffic, missing services", "Status"),
        Route("GET /log", logs.show, "The log level", "LogLevel"),
        Route("PUT /log", logs.update, "Change the log level until the next start", "LogLevel", body="LogLevel"),
    ),
    *_tagged(
        "Console",
        Route("GET /login", login.show, "The signed-in user, and the ways to sign in", "LoginState", public=True),
        Route(
            "POST /login",
            login.sign_in,
            "Sign in with the admin token, or a user's name and password",
            "LoginState",
            body="NewLogin",
            statuses=(401, 403, 413, 429, 503),
            public=True,
        ),
        Route("POST /logout", login.sign_out, "Sign out", "LoginState", role=_BROADCASTER),
        Route(
            "GET /oidc/start",
            oidc.start,
            "Go to the sign-in provider",
            "text/html",
            statuses=(404, 503),
            public=True,
            status=302,
            other_answers=((503, "text/html"),),
            page=True,
        ),
        Route(
            "GET /oidc/callback",
            oidc.callback,
            "Return from the sign-in provider",
            "text/html",
            statuses=(403, 404, 429, 503),
            query=(("code", "from the provider"), ("state", "from the provider"), ("error", "from the provider")),
            public=True,
            status=303,
            other_answers=((403, "text/html"), (429, "text/html"), (503, "text/html")),
            page=True,
        ),
        Route(
            "GET /profile",
            users.profile,
            "Show the profile of the signed-in user",
            "Profile",
            statuses=(503,),
            role=_BROADCASTER,
        ),
        Route(
            "PUT /profile",
            users.update_profile,
            "Replace the profile of the signed-in user; nobody else can read it",
            "Profile",
            body="Profile",
            statuses=(413, 503),
            role=_BROADCASTER,
        ),
        Route("GET /users", users.index, "List the users of the console", "Users", statuses=(503,)),
        Route("POST /users", users.create, "Create a user", "User", body="NewUser", statuses=(409, 503)),
        Route(
            "PUT /users/{name}",
            users.update,
            "Change a user's password, role or channels, which ends the user's sessions",
            "User",
            body="UserChanges",
            statuses=(503,),
        ),
        Route(
            "DELETE /users/{name}",
            users.delete,
            "Delete a user with sessions and profile",
            "DeletedUser",
            statuses=(503,),
        ),
    ),
    *_tagged(
        "Amazon IVS",
        Route("GET /ivs/channels", ivs.index, "List the IVS channels of the region", "IvsChannels"),
        Route(
            "POST /ivs/channels",
            ivs.create,
            "Create an IVS channel; only this answer shows its key",
            "NewIvsChannel",
            body="IvsChannelWanted",
            statuses=(409,),
        ),
        Route(
            "DELETE /ivs/channels/{arn:.+}",
            ivs.delete,
            "Delete an IVS channel and its keys",
            "DeletedIvsChannel",
            statuses=(400, 409),
        ),
        statuses=(502, 503),
    ),
    *_tagged(
        "Console",
        Route("GET /", console.index, "The console", "text/html", public=True, page=True),
        Route("GET /docs", console.docs, "A page that shows this description", "text/html", public=True, page=True),
        Route(
            "GET /broadcast.json",
            console.push_ports,
            "The ports for pushes from pages",
            "PushPorts",
            public=True,
            page=True,
        ),
        Route(
            "GET /console/broadcast.html",
            console.broadcaster,
            "A page that streams from a camera",
            "text/html",
            public=True,
            page=True,
        ),
        Route(
            "GET /console/{path:.+}",
            console.file,
            "Files of the pages",
            "application/octet-stream",
            statuses=(404,),
            public=True,
            page=True,
        ),
        Route(
            "GET /_player/{path:.+}",
            console.file,
            "Files of the pages, at their addresses on the playback listener",
            "application/octet-stream",
            statuses=(404,),
            public=True,
            page=True,
        ),
    ),
    *_tagged(
        "node-media-server",
        Route("GET /api/server", nms.server, "Machine, traffic and clients", "NmsServer"),
        Route("GET /api/streams", nms.streams, "The live streams", "NmsStreams"),
        Route("GET /api/streams/{app}/{id}", nms.stream, "One stream", "NmsStream"),
    ),
)


def make_app(context: Context) -> web.Application:
    """Returns the admin application. Serve it with `access_log=None`, because it logs refusals itself."""
    routes = [route for route in ROUTES if context.pages or not route.page]
    app = web.Application(
        middlewares=[answer_middleware, auth_middleware(context, routes)], client_max_size=context.limits.body
    )
    app[CONTEXT] = context
    oidc.set_up(app, context)
    app[document_route.DOCUMENT] = document_route.CachedDocument(routes)
    limit_refusal_lines(app)
    for route in routes:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)  # includes HEAD
        else:
            app.router.add_route(route.method, route.path, route.handler)
    return app
