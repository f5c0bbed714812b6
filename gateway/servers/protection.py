"""Protection: who may play a channel: its play signs or CloudFront signatures, and whose pages may embed it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

import structlog

from gateway.hub.access import Verdict
from gateway.hub.channel import Channel
from gateway.hub.names import channel_of
from gateway.lib.refusals import Refusals
from gateway.servers import cloudfront
from gateway.servers.cloudfront import CloudFront
from gateway.servers.origins import host_name
from gateway.servers.request import Request
from gateway.servers.response import Response, text, try_later

log = structlog.get_logger(__name__)

# verify_play(channel id, sign, now): gateway.hub.access.Secrets.verify_play
VerifyPlay: TypeAlias = Callable[[str, str | None, float], Verdict]

_MOST_SIGNS: Final = 10_000
_MOST_POLICIES: Final = 4096
_NEEDS_SIGN: Final = text(403, "a play sign is needed: ?sign=<expiry>-<hash>")
_FOREIGN: Final = text(403, "this channel may not be embedded by that page")


@dataclass(frozen=True, slots=True)
class _Policy:
    """What rules one channel, read from its stored fields once: `channel` is what it was read from."""

    channel: Channel
    auth: str
    referers: tuple[str, ...]


class Protection:
    """Judges requests for a channel's media; hot and without waiting.

    auth and referers are what channels without their own `playAuth` and `refererAllow` obey; a channel that does not
    exist obeys them too, so that its answers tell nothing. Once an address had `refusals_per_minute` credentials
    refused, only credentials that are known to be right still count there (429 otherwise) until the minute is over.
    Counters: `refused` by reason.
    """

    def __init__(
        self,
        *,
        auth: str,
        referers: Sequence[str],
        verify_play: VerifyPlay,
        cloudfront: CloudFront | None,
        refusals_per_minute: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auth = auth
        self._referers = tuple(r.lower() for r in referers)
        self._verify_play = verify_play
        self._cloudfront = cloudfront
        self._refusals = Refusals(refusals_per_minute)
        self._clock = clock
        self._monotonic = monotonic
        self._policies: OrderedDict[str, _Policy] = OrderedDict()
        self._signs: OrderedDict[tuple[str, str], int] = OrderedDict()  # genuine ones: when they expire
        self.refused: dict[str, int] = {}

    def judge(self, request: Request, name: str, channel: Channel | None) -> Response | None:
        """None where `request` may have the stream `name` of `channel` (None: there is none), else its answer."""
        if channel is None:
            auth, referers = self._auth, self._referers
        else:
            policy = self._policies.get(channel.id)
            if policy is None or policy.channel is not channel:
                policy = self._read(channel)
            auth, referers = policy.auth, policy.referers
        if referers and not embeddable(request, referers):
            self._count("referer")
            return _FOREIGN
        if auth == "none":
            return None
        if auth == "sign":
            return self._by_sign(request, channel_of(name))
        return self._by_cloudfront(request)

    # ---- play signs ----

    def _by_sign(self, request: Request, id: str) -> Response | None:
        signs = [part[5:] for part in request.raw_query.split("&") if part.startswith("sign=")]
        if not signs:
            self._count("missing")
            return _NEEDS_SIGN
        sign = unquote(signs[0])
        now = self._clock()
        expires = self._signs.get((id, sign))
        if expires is not None and len(signs) == 1 and expires >= int(now):
            return None
        if (wait := self._blocked(request)) is not None:
            return wait
        if len(signs) > 1:
            return self._refuse(request, "wrong", "the play sign stands there twice")
        verdict = self._verify_play(id, sign, now)
        if verdict is Verdict.VALID:
            self._signs[id, sign] = int(sign.partition("-")[0])
            if len(self._signs) > _MOST_SIGNS:
                self._signs.popitem(last=False)
            return None
        if verdict is Verdict.EXPIRED:
            return self._refuse(request, "expired", "the play sign has expired")
        return self._refuse(request, "wrong", "the play sign is wrong")

    # ---- CloudFront ----

    def _by_cloudfront(self, request: Request) -> Response | None:
        verifier = self._cloudfront
        if verifier is None:
            self._count("missing")
            return text(403, "this channel is played through CloudFront only")
        if verifier.from_origin(request):
            return None
        now = self._clock()
        reason = verifier.judge(request, now, verify=False)
        if reason is None:
            return None
        if reason is cloudfront.UNKNOWN:
            if (wait := self._blocked(request)) is not None:
                return wait
            reason = verifier.judge(request, now)
            if reason is None:
                return None
        if reason == "a CloudFront signature is needed":
            self._count("missing")
            return text(403, reason)
        return self._refuse(request, "expired" if "expired" in reason else "wrong", reason)

    # ---- refusals ----

    def _blocked(self, request: Request) -> Response | None:
        if request.exempt:
            return None
        seconds = self._refusals.wait(request.peer, self._monotonic())
        if not seconds:
            return None
        self._count("blocked")
        return try_later("too many refused requests from this address", seconds, 429)

    def _refuse(self, request: Request, kind: str, reason: str) -> Response:
        """403; a credential that was shown and refused counts against the address, a missing one does not."""
        if not request.exempt:
            self._refusals.add(request.peer, self._monotonic())
        log.info("playback refused", path=request.path[:200], peer=request.peer, reason=reason)
        self._count(kind)
        return text(403, reason)

    def _count(self, kind: str) -> None:
        self.refused[kind] = self.refused.get(kind, 0) + 1

    def _read(self, channel: Channel) -> _Policy:
        referers = channel.referer_allow
        policy = _Policy(channel, channel.play_auth or self._auth, self._referers if referers is None else referers)
        self._policies[channel.id] = policy
        if len(self._policies) > _MOST_POLICIES:
            self._policies.popitem(last=False)
        return policy


def embeddable(request: Request, allowed: Sequence[str]) -> bool:
    """Whether the page that asks may: it is on the list, of this very host (as the console is, at another port), or
    nothing tells which it is.

    Players outside browsers send no Referer, and are let in (as nginx's `valid_referers none`). A page that hides its
    Referer still sends an Origin with what crosses origins; `Origin: null`, a page without any, is foreign.
    """
    page = request.headers.get("referer") or request.headers.get("origin")
    if not page:
        return True
    try:
        parts = urlsplit(page)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.scheme not in ("http", "https"):
        return False
    if host == host_name(f"//{request.host}"):
        return True
    bare = f"[{host}]" if ":" in host else host
    full = f"{bare}:{port or (443 if parts.scheme == 'https' else 80)}"
    return any(_covers(entry, bare) or _covers(entry, full) for entry in allowed)


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of the list, `example.com`, `*.example.com`, `example.com:8080`, names the host."""
    if entry.startswith("*."):
        return host.endswith(entry[1:]) and len(host) > len(entry) - 1
    return entry == "*" or host == entry
