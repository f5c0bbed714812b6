"""Opens MoQ, and answers pages that want to play by it: `POST /<id>/moq`."""

from __future__ import annotations

import asyncio
import json
import time

from gateway.http.origin_policy import host_name
from gateway.http.request import Request
from gateway.http.response import JSON, Answer, Response, not_allowed, service_unavailable
from gateway.lib.extras import INSTALL_MOQ
from gateway.lib.network import url_host
from gateway.lib.sockets import ListenError
from gateway.listeners.port_listener import OpenListeners
from gateway.playback.http_play import answer_refused, http_play
from gateway.playback.moq.certificate import MoqCertificate
from gateway.playback.moq.moq_output import KIND
from gateway.playback.moq.tickets import make_ticket
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.services import PlayServices
from gateway.ports.errors import GatewayError

_NOT_ALLOWED = not_allowed("POST, OPTIONS")


def open_moq(services: PlayServices) -> OpenListeners:
    """Returns the port, in the first process of a machine, and the responder for pages. Raises ListenError."""
    try:
        from gateway.playback.moq.listener import MoqListener
    except ModuleNotFoundError as error:
        raise ListenError(f"{KIND}: {error.name} is not installed: {INSTALL_MOQ}") from None
    certificate = MoqCertificate(services.settings.data, services.settings.tls)
    listeners = (MoqListener(services, certificate),) if services.is_first else ()
    return OpenListeners(listeners, services.tasks, {KIND: MoqPages(services, certificate).respond})


class MoqPages:
    """Checks viewers in pages like those of all formats over HTTP, and gives them a ticket for the port of MoQ.

    The library tells neither the address of a client nor its page, so limits, hook and `refererAllow` apply here.
    """

    def __init__(self, services: PlayServices, certificate: MoqCertificate) -> None:
        self._services = services
        self._certificate = certificate

    def respond(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers below /<id>/moq: `{"url", "name", "hashes"}`. See PageAccess for the hashes."""
        return self._open(request, name) if request.method == "POST" and name else _NOT_ALLOWED

    async def _open(self, request: Request, name: str) -> Answer:
        play = http_play(self._services.plays, self._services.streams, request, name, counted=True)
        try:
            await play.wait()
        except GatewayError as error:
            return answer_refused(play, request, error)
        finally:
            play.end()
        try:
            access = await asyncio.to_thread(self._certificate.access)
        except OSError:  # the process with the port has not written it yet
            return service_unavailable("the port of MoQ is not open yet", 1)
        address = "" if request.exempt else request.peer
        ticket = make_ticket(access.key, play.name, address, time.time())
        host, port = host_name(f"//{request.host}"), self._services.ports()[KIND]
        url = f"https://{url_host(host)}:{port}/{play.name}?ticket={ticket}"
        body = {"url": url, "name": play.name, "hashes": access.hashes}
        return Response(200, json.dumps(body).encode(), JSON)
