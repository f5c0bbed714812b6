"""The routes of the admin listener in one table: order, tag, path, and who may use them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from gateway.api import (
    alarms,
    appearance,
    captions,
    channel_forms,
    channel_list,
    channels,
    clips,
    cloudfront,
    console,
    cues,
    document_route,
    events,
    films,
    history,
    inputs,
    ivs,
    jobs,
    login,
    media,
    nms,
    oidc,
    qr_code,
    recordings,
    servers,
    sessions,
    status,
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
        Route("GET /videostream", channels.index, observer=True, role=_BROADCASTER),
        Route("GET /videostream/{id}", channels.show, observer=True, role=_BROADCASTER),
        Route("PUT /videostream/{id}", channels.update),
        Route("DELETE /videostream/{id}", channels.delete),
        Route("GET /videostream/{id}/qr", channels.qr, observer=True, role=_BROADCASTER),
        Route("GET /videostream/{id}/obs-multitrack", channels.obs_configuration, role=_BROADCASTER),
        Route("PUT /videostream/{id}/about", channels.set_about, role=_BROADCASTER),
        Route("PUT /videostream/{id}/poster", appearance.set_poster, role=_BROADCASTER),
        Route("DELETE /videostream/{id}/poster", appearance.remove_poster, role=_BROADCASTER),
        Route("PUT /videostream/{id}/relay", channels.set_relay, role=_BROADCASTER),
        Route("POST /videostream/{id}/cloudfront", cloudfront.sign_channel),
        Route("POST /cloudfront", cloudfront.sign),
    ),
    *_tagged(
        "Sessions",
        Route("GET /videostream/{id}/session", sessions.show, observer=True, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/experience", sessions.experience, observer=True, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/traffic", history.channel_traffic, observer=True, role=_BROADCASTER),
        Route("DELETE /videostream/{id}/session", sessions.end_session, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/inputs", inputs.show, observer=True, role=_BROADCASTER, held=True),
        Route("PUT /videostream/{id}/inputs", inputs.update, held=True),
        Route("POST /videostream/{id}/inputs/{name}/take", inputs.take, role=_BROADCASTER, held=True),
        Route("DELETE /videostream/{id}/inputs/take", inputs.release, role=_BROADCASTER, held=True),
        Route(
            "GET /videostream/{id}/inputs/{name}/preview", inputs.preview, observer=True, role=_BROADCASTER, held=True
        ),
        Route("GET /videostream/{id}/captions", captions.show, observer=True, role=_BROADCASTER, held=True),
        Route("POST /videostream/{id}/captions", captions.post, role=_BROADCASTER, held=True),
        Route("GET /videostreams", channel_list.page, observer=True, role=_BROADCASTER),
        Route("GET /videostreams/online", sessions.online, observer=True, role=_BROADCASTER),
        Route("GET /videostreams/traffic", history.traffic, observer=True),
        Route("POST /videostream/{id}/outputs/{name}", sessions.switch, held=True),
        Route("POST /videostream/{id}/cues", cues.create, role=_BROADCASTER, held=True),
        Route("GET /videostream/{id}/cues", cues.index, observer=True, role=_BROADCASTER, held=True),
        Route("POST /videostream/{id}/metadata", cues.put_metadata, role=_BROADCASTER, held=True),
    ),
    *_tagged(
        "Recordings",
        Route("GET /videostream/{id}/recordings", recordings.index, observer=True, role=_BROADCASTER),
        Route("DELETE /videostream/{id}/recordings/{path:.+}", recordings.delete),
        Route("POST /videostream/{id}/clips", clips.create, role=_BROADCASTER, held=True, slow=True),
        Route("GET /videostream/{id}/export", clips.export, observer=True, role=_BROADCASTER, held=True, slow=True),
        Route("GET /media", media.index, observer=True),
        Route("GET /media/channels", media.channels, observer=True),
        Route("DELETE /media", media.delete),
        Route("GET /bin", recordings.bin_entries, observer=True),
        Route("POST /bin/{id}/restore", recordings.restore),
        Route("DELETE /bin/{id}", recordings.delete_for_good),
        Route("DELETE /bin", recordings.empty_bin),
    ),
    *_tagged(
        "Jobs",
        Route("POST /jobs", jobs.submit),
        Route("GET /jobs", jobs.index, observer=True),
        Route("GET /jobs/{id}", jobs.show, observer=True),
        Route("DELETE /jobs/{id}", jobs.cancel),
        Route("POST /uploads", films.create_upload),
        Route("PUT /uploads/{key}", films.receive_upload, public=True),
        Route("GET /films", films.index, observer=True),
        Route("GET /filmqr/{key:.+}", films.qr, observer=True),
        Route("PUT /filmcaptions/{key:.+}/{language}", films.set_captions),
        Route("DELETE /filmcaptions/{key:.+}/{language}", films.remove_captions),
        Route("GET /films/{key:.+}", films.show, observer=True),
        Route("PUT /films/{key:.+}", films.edit),
        Route("DELETE /films/{key:.+}", films.delete),
        Route("POST /processObject", jobs.process_object),
    ),
    *_tagged(
        "Site",
        Route("GET /site", appearance.show, observer=True),
        Route("PUT /site", appearance.update),
        Route("GET /site/logo", appearance.logo, observer=True),
        Route("PUT /site/logo", appearance.set_logo),
        Route("DELETE /site/logo", appearance.remove_logo),
    ),
    *_tagged("Node", Route("GET /domains", servers.domains, observer=True), Route("PUT /domains", servers.set_domains)),
    *_tagged(
        "Amazon IVS",
        Route("GET /getServers", servers.broadcast_servers, public=True),
        Route("POST /putitens", ivs.store_parameters, role=_BROADCASTER),
        Route("GET /putitens/{username}", ivs.parameters_of, role=_BROADCASTER),
    ),
    *_tagged(
        "Node",
        Route("GET /fields", channel_forms.index, observer=True),
        Route("GET /outputs", channel_forms.outputs, observer=True),
        Route("GET /servers", servers.servers, role=_BROADCASTER),
        Route("GET /_servers/{id}", servers.servers_for_key, public=True),
        Route("POST /qr", qr_code.create, observer=True, role=_BROADCASTER),
        Route("GET /alarms", alarms.show, observer=True),
        Route("PUT /alarms", alarms.update),
        Route("POST /alarms/{name}/test", alarms.test),
        Route("GET /events", events.index, observer=True, role=_BROADCASTER, by_query=True),
        Route("GET /nodes", status.nodes, observer=True),
        Route("GET /history", history.show, observer=True, role=_BROADCASTER, by_query=True),
        Route("GET /metrics", status.metrics, observer=True),
        Route("GET /openapi.json", document_route.openapi, observer=True),
        Route("GET /healthcheck", status.healthcheck, public=True),
        Route("GET /ready", status.ready, public=True),
        Route("GET /status", status.show, observer=True),
        Route("GET /log", status.log_level, observer=True),
        Route("PUT /log", status.set_log_level),
    ),
    *_tagged(
        "Console",
        Route("GET /login", login.show, public=True),
        Route("POST /login", login.sign_in, public=True),
        Route("POST /logout", login.sign_out, observer=True, role=_BROADCASTER),
        Route("GET /oidc/start", oidc.start, public=True, page=True),
        Route("GET /oidc/callback", oidc.callback, public=True, page=True),
        Route("GET /profile", users.profile, observer=True, role=_BROADCASTER),
        Route("PUT /profile", users.update_profile, observer=True, role=_BROADCASTER),
        Route("GET /users", users.index, observer=True),
        Route("POST /users", users.create),
        Route("PUT /users/{name}", users.update),
        Route("DELETE /users/{name}", users.delete),
        Route("DELETE /users/{name}/second-factor", users.reset_second_factor),
    ),
    *_tagged(
        "Account",
        Route("PUT /account/password", login.change_password, observer=True, role=_BROADCASTER),
        Route("GET /account/second-factor", login.second_factor, observer=True, role=_BROADCASTER),
        Route("POST /account/second-factor", login.begin_second_factor, observer=True, role=_BROADCASTER),
        Route("PUT /account/second-factor", login.confirm_second_factor, observer=True, role=_BROADCASTER),
        Route("POST /account/second-factor/off", login.end_second_factor, observer=True, role=_BROADCASTER),
    ),
    *_tagged(
        "Tokens",
        Route("GET /tokens", users.tokens, observer=True),
        Route("POST /tokens", users.create_token),
        Route("DELETE /tokens/{id}", users.revoke_token),
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
        Route("GET /api/server", nms.server, observer=True),
        Route("GET /api/streams", nms.streams, observer=True),
        Route("GET /api/streams/{app}/{id}", nms.stream, observer=True, held=True),
    ),
)


def routes_of(console: bool) -> list[Route]:
    """Returns the routes of an admin listener, which may have no pages of the console."""
    return [route for route in ROUTES if console or not route.page]
