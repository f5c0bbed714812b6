"""Sends browsers from pages over http to https. Players, encoders and other nodes keep using http."""

from collections.abc import Callable

from gateway.channels.addresses import OpenPorts
from gateway.http.origin_policy import host_name
from gateway.http.request import Request
from gateway.http.response import text
from gateway.playback.play_format import AnswerOrAwaitable

_NAVIGATION = "upgrade-insecure-requests"


class HttpsRedirect:
    """Redirects the requests of the playback listener that open a page; `respond` answers all others.

    ports: returns the open ports with their certificate. A host that it does not cover is not redirected.
    """

    def __init__(self, respond: Callable[[Request], AnswerOrAwaitable], ports: Callable[[], OpenPorts]) -> None:
        self._respond, self._ports = respond, ports

    def __call__(self, request: Request) -> AnswerOrAwaitable:
        # https://www.w3.org/TR/upgrade-insecure-requests/#preference: browsers send the header when they open a page.
        if request.scheme == "http" and request.headers.get(_NAVIGATION) == "1" and request.method in ("GET", "HEAD"):
            ports, host = self._ports(), host_name(f"//{request.host}")
            if ports.over_tls("http") and ports.certificate.cover(host):
                port = "" if ports["https"] == 443 else f":{ports['https']}"
                query = f"?{request.raw_query}" if request.raw_query else ""
                headers = {"Location": f"https://{host}{port}{request.raw_path}{query}", "Vary": _NAVIGATION}
                return text(307, "this page is at https", headers=headers)
        return self._respond(request)
