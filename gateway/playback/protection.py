"""Decides which viewers may play a channel, by play sign or CloudFront signature, and which pages may embed it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog

from gateway.channels.channel import Channel
from gateway.channels.fields import NO_PLAYBACK, invalid_protection_fields
from gateway.channels.names import channel_of
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.http.origin_policy import host_name
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.refusals import Refusals
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.ports.errors import NotAuthorized, TooManyRefusals

log = structlog.get_logger(__name__)

_MAX_SIGNS: Final = 10_000
_MAX_POLICIES: Final = 4096
_MAX_WARNINGS: Final = 1024
_NEEDS_SIGN: Final = text(403, "a play sign is needed: ?sign=<expiry>-<hash>")
_NOT_UNDERSTOOD: Final = text(403, "this channel's protection is not understood: nobody may play it")
_FOREIGN: Final = text(403, "this channel may not be embedded by that page")


@dataclass(frozen=True, slots=True)
class _Policy:
    """The rules of one channel, read once from its fields. channel: their source; None for unknown channels."""

    channel: Channel | None
    auth: str
    referers: tuple[str, ...]


class PlaybackProtection:
    """Checks requests for a channel's media. Hot path; it never waits.

    auth and referers apply to channels without their own `playAuth` and `refererAllow`.
    They apply to unknown channels too, so that answers do not show which channels exist.
    A channel whose own fields are invalid is closed.
    Every credential is verified, even after refusals.
    After `refusals_per_minute` refused credentials of an address, its wrong ones get 429 until the minute is over.
    Those are not logged. Counters: `refused` by reason.
    """

    def __init__(
        self,
        *,
        auth: str,
        referers: Sequence[str],
        secrets: SigningSecrets,
        cloudfront: CloudFrontVerifier | None,
        refusals_per_minute: int,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        self._auth = auth
        self._referers = tuple(r.lower() for r in referers)
        self._secrets = secrets
        self._cloudfront = cloudfront
        self._refusals = Refusals(refusals_per_minute)
        self._clock = clocks.wall
        self._monotonic = clocks.monotonic
        self._default = _Policy(None, auth, self._referers)
        self._policies: OrderedDict[str, _Policy] = OrderedDict()
        self._warned = ProtectionWarnings()
        self._signs: OrderedDict[tuple[str, str], int] = OrderedDict()  # valid signs and their expiry times
        self._rotations = secrets.rotations  # rotation count of the secrets that verified them
        self.refused: dict[str, int] = {}

    def judge(self, request: Request, name: str, channel: Channel | None) -> Response | None:
        """Returns None if `request` may have the stream `name` of `channel` (None: unknown), otherwise the refusal."""
        policy = self._policies.get(channel.id) if channel is not None else self._default
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
        if auth == NO_PLAYBACK:
            self._count("not understood")
            return _NOT_UNDERSTOOD
        return self._by_cloudfront(request)

    def judge_sign(self, name: str, channel: Channel | None, sign: str | None, address: str | None) -> None:
        """Does the same for RTMP, without pages and CloudFront. Raises NotAuthorized, TooManyRefusals.

        address: None for a trusted proxy, whose address is not limited.
        """
        auth = self._read(channel).auth
        if auth == "none":
            return
        verdict = Verdict.MISSING
        if auth == "sign":
            verdict = self._secrets.verify_play(channel_of(name), sign, self._clock())
        if verdict is Verdict.VALID:
            return
        if sign and address is not None and self._refusals.add(address, self._monotonic()):
            self._count("blocked")
            raise TooManyRefusals("too many refused signs from this address")
        self._count("not understood" if auth == NO_PLAYBACK else str(verdict))
        raise NotAuthorized(str(verdict))

    # ---- play signs ----

    def _by_sign(self, request: Request, id: str) -> Response | None:
        signs = [part[5:] for part in request.raw_query.split("&") if part.startswith("sign=")]
        if not signs:
            self._count("missing")
            return _NEEDS_SIGN
        sign = unquote(signs[0])
        now = self._clock()
        if self._rotations != self._secrets.rotations:
            self._rotations = self._secrets.rotations
            self._signs.clear()
        expires = self._signs.get((id, sign))
        if expires is not None and len(signs) == 1 and expires >= int(now):
            return None
        if len(signs) > 1:
            return self._refuse(request, "wrong", "the play sign appears twice")
        verdict = self._secrets.verify_play(id, sign, now)
        if verdict is Verdict.VALID:
            self._signs[id, sign] = int(sign.partition("-")[0])
            if len(self._signs) > _MAX_SIGNS:
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
        reason = verifier.judge(request, self._clock())
        if reason is None:
            return None
        if reason == "a CloudFront signature is needed":
            self._count("missing")
            return text(403, reason)
        return self._refuse(request, "expired" if "expired" in reason else "wrong", reason)

    # ---- refusals ----

    def _refuse(self, request: Request, kind: str, reason: str) -> Response:
        """Returns 403, or 429 beyond the limit of the address.

        Only credentials that were sent count, not missing ones.
        """
        if not request.exempt and (seconds := self._refusals.add(request.peer, self._monotonic())):
            self._count("blocked")
            return service_unavailable("too many refused requests from this address", seconds, 429)
        log.info("playback refused", path=request.path[:200], peer=request.peer, reason=reason)
        self._count(kind)
        return text(403, reason)

    def _count(self, kind: str) -> None:
        self.refused[kind] = self.refused.get(kind, 0) + 1

    def _read(self, channel: Channel | None) -> _Policy:
        if channel is None:
            return self._default
        self._warned.look(channel)
        referers = channel.referer_allow
        policy = _Policy(channel, channel.play_auth or self._auth, self._referers if referers is None else referers)
        self._policies[channel.id] = policy
        if len(self._policies) > _MAX_POLICIES:
            self._policies.popitem(last=False)
        return policy


class ProtectionWarnings:
    """Warns of channels with invalid protection fields, once for each channel and value.

    Remembers the last 1,024 warnings.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def look(self, channel: Channel) -> None:
        for field, value in invalid_protection_fields(channel.item).items():
            if self._is_new(channel.id, field, value):
                log.warning(
                    "the channel's protection is not understood: nobody may play it",
                    stream=channel.id,
                    field=field,
                    value=repr(value)[:100],
                )

    def _is_new(self, id: str, field: str, value: Any) -> bool:
        told = (id, field, repr(value)[:1000])
        known = told in self._told
        self._told[told] = None
        self._told.move_to_end(told)
        if len(self._told) > _MAX_WARNINGS:
            self._told.popitem(last=False)
        return not known


def embeddable(request: Request, allowed: Sequence[str]) -> bool:
    """Whether the requesting page may embed the channel.

    A page may if it is on the list, on this host (as the console is, at another port), or unknown.
    Players outside browsers send no Referer, and are allowed (like nginx's `valid_referers none`).
    A page that hides its Referer still sends an Origin with cross-origin requests; `Origin: null` is refused.
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
    """Whether an entry of the list, `example.com`, `*.example.com`, `example.com:8080`, matches the host."""
    if entry.startswith("*."):
        return host.endswith(entry[1:]) and len(host) > len(entry) - 1
    return entry == "*" or host == entry
