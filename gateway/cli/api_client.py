"""Asks a running gateway through its API, over HTTP or HTTPS."""

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlencode

from gateway.ports.errors import GatewayError

_TIMEOUT: Final = 15.0  # seconds for one answer; the gateway may wait for a store or other nodes
_MAX_ANSWER: Final = 32_000_000  # bytes


class NoAnswer(GatewayError):
    """The gateway cannot be reached. The message says at which address, and what to do."""


class Refused(GatewayError):
    """The gateway refused the request. The message is its reason."""


class Unavailable(Refused):
    """The gateway or its proxy cannot answer now: status 429 or 5xx."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for one address only."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Api:
    """The API at `base`, for one token. tls: the trusted authorities; None: `base` is http."""

    base: str
    token: str
    tls: ssl.SSLContext | None

    def ask(self, method: str, path: str, query: dict[str, Any] | None = None) -> Any:
        """Returns the JSON answer. Raises NoAnswer, Refused."""
        try:
            return json.loads(self.send(method, path + (f"?{urlencode(query)}" if query else "")))
        except ValueError:
            raise NoAnswer(f"{self.base} does not answer like a gateway: give the admin listener with --url") from None

    def send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Returns the answer as it came. Raises NoAnswer, Refused."""
        authorization = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.base}{path}", body, authorization, method=method)  # noqa: S310
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if self.tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=self.tls))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT) as reply:
                return bytes(reply.read(_MAX_ANSWER))
        except urllib.error.HTTPError as error:
            kind = Unavailable if error.code == 429 or error.code >= 500 else Refused
            with error:
                raise kind(_reason(error)) from None
        except (OSError, HTTPException) as error:
            cause = getattr(error, "reason", error)
            text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            hint = "start one with `millrace serve`, or name another with --url"
            raise NoAnswer(f"no gateway answers at {self.base} ({str(text).lower()}): {hint}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return "the admin token is wrong; `millrace token reset` makes a new one on the gateway's machine"
    try:
        told = json.loads(error.read(65_536))
        return f"{told['field']}: {told['error']}" if told.get("field") else str(told["error"])
    except (ValueError, KeyError, TypeError, AttributeError, OSError, HTTPException):
        return f"the gateway answered {error.code}"
