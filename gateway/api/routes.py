"""The routes of the admin listener in one table: order, tag, path, and who may use them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from gateway.api import (
    channel_forms,
    channels,
    clips,
    cloudfront,
    console,
    document_route,
    domains,
    events,
    films,
    history,
    inputs,
    ivs,
    ivs_parameters,
    jobs,
    key_servers,
    kinesis_upload,
    login,
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
from gateway.api.route import Route
from gateway.ports.users import UserRole

_BROADCASTER: Final = UserRole.BROADCASTER


def _tagged(tag: str, *routes: Route) -> Iterator[Route]:
    """Yields the routes of one tag."""
    return (replace(route, tag=tag) for route in routes)


ROUTES: Final = (
    *_tagged(
        "Channels",
        Route("POST /videostream", channels.create),
        Route("GET /videostream", channels.index, role=_BROADCASTER),
        Route("GET /videostream/{id}", channels.show, role=_BROADCASTER),
        Route("PUT /videostream/{id}", channels.update),
        Route("DELETE /videostream/{id}", channels.delete),
        Route("GET /videostream/{id}/qr", channels.qr, role=_BROADCASTER),
        Route("GET /videostream/{id}/obs-multitrack", obs.multitrack, role=_BROADCASTER),
        Route("PUT /videostream/{id}/relay", channels.set_relay, role=_BROADCASTER),
        Route("POST /videostream/{id}/cloudfront", cloudfront.sign_channel),
        Route("POST /cloudfront", cloudfront.sign),
    ),
    *_tagged(
        "Sessions",
        Route("GET /videostream/{id}/session", sessions.show, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/experience", sessions.experience, held=True),
        Route("DELETE /videostream/{id}/session", sessions.end_session, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/inputs", inputs.show, role=_BROADCASTER, held=True),
        Route("PUT /videostream/{id}/inputs", inputs.update, held=True),
        Route("POST /videostream/{id}/inputs/{name}/take", inputs.take, role=_BROADCASTER, held=True),
        Route("DELETE /videostream/{id}/inputs/take", inputs.release, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/inputs/{name}/preview", inputs.preview, role=_BROADCASTER, held=True),
        Route("GET /videostreams/online", sessions.online, role=_BROADCASTER),
        Route("POST /videostream/{id}/outputs/{name}", sessions.switch, held=True),
    ),
    *_tagged(
        "Recordings",
        Route("GET /videostream/{id}/recordings", recordings.index, role=_BROADCASTER),
        Route("DELETE /videostream/{id}/recordings/{path:.+}", recordings.delete),
        Route("POST /videostream/{id}/clips", clips.create, role=_BROADCASTER, held=True, slow=True),
        Route("GET /videostream/{id}/export", clips.export, role=_BROADCASTER, held=True, slow=True),
        Route("GET /media", media.index),
        Route("GET /media/channels", media.channels),
        Route("DELETE /media", media.delete),
    ),
    *_tagged(
        "Jobs",
        Route("POST /jobs", jobs.submit),
        Route("GET /jobs", jobs.index),
        Route("GET /jobs/{id}", jobs.show),
        Route("DELETE /jobs/{id}", jobs.cancel),
        Route("POST /uploads", uploads.create_upload),
        Route("PUT /uploads/{key}", uploads.receive, public=True),
        Route("GET /films", films.index),
        Route("GET /filmqr/{key:.+}", films.qr),
        Route("GET /films/{key:.+}", films.show),
        Route("PUT /films/{key:.+}", films.edit),
        Route("DELETE /films/{key:.+}", films.delete),
        Route("POST /processObject", kinesis_upload.process_object),
    ),
    *_tagged("Node", Route("GET /domains", domains.show), Route("PUT /domains", domains.update)),
    *_tagged(
        "Amazon IVS",
        Route("GET /getServers", servers.broadcast_servers, public=True),
        Route("POST /putitens", ivs_parameters.store, role=_BROADCASTER),
        Route("GET /putitens/{username}", ivs_parameters.show, role=_BROADCASTER),
    ),
    *_tagged(
        "Node",
        Route("GET /fields", channel_forms.index),
        Route("GET /outputs", channel_forms.outputs),
        Route("GET /servers", servers.servers, role=_BROADCASTER),
        Route("GET /_servers/{id}", key_servers.servers, public=True),
        Route("POST /qr", qr_code.create, role=_BROADCASTER),
        Route("GET /events", events.index),
        Route("GET /nodes", status.nodes),
        Route("GET /history", history.show),
        Route("GET /metrics", status.metrics),
        Route("GET /openapi.json", document_route.openapi),
        Route("GET /healthcheck", status.healthcheck, public=True),
        Route("GET /ready", status.ready, public=True),
        Route("GET /status", status.show),
        Route("GET /log", status.log_level),
        Route("PUT /log", status.set_log_level),
    ),
    *_tagged(
        "Console",
        Route("GET /login", login.show, public=True),
        Route("POST /login", login.sign_in, public=True),
        Route("POST /logout", login.sign_out, role=_BROADCASTER),
        Route("GET /oidc/start", oidc.start, public=True, page=True),
        Route("GET /oidc/callback", oidc.callback, public=True, page=True),
        Route("GET /profile", users.profile, role=_BROADCASTER),
        Route("PUT /profile", users.update_profile, role=_BROADCASTER),
        Route("GET /users", users.index),
        Route("POST /users", users.create),
        Route("PUT /users/{name}", users.update),
        Route("DELETE /users/{name}", users.delete),
    ),
    *_tagged(
        "Amazon IVS",
        Route("GET /ivs/channels", ivs.index),
        Route("POST /ivs/channels", ivs.create),
        Route("DELETE /ivs/channels/{arn:.+}", ivs.delete),
    ),
    *_tagged(
        "Console",
        Route("GET /", console.index, public=True, page=True),
        Route("GET /docs", console.docs, public=True, page=True),
        Route("GET /broadcast.json", console.push_ports, public=True, page=True),
        Route("GET /console/broadcast.html", console.broadcaster, public=True, page=True),
        Route("GET /console/{path:.+}", console.file, public=True, page=True),
        Route("GET /_player/{path:.+}", console.player_file, public=True, page=True),
    ),
    *_tagged(
        "node-media-server",
        Route("GET /api/server", nms.server),
        Route("GET /api/streams", nms.streams),
        Route("GET /api/streams/{app}/{id}", nms.stream, held=True),
    ),
)
