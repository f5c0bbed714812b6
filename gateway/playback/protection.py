"""Decides which viewers may play a channel (by play sign or CloudFront signature), and which pages may embed it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog

from gateway.channels.channel import Channel
from gateway.channels.fields import NO_PLAYBACK, invalid_protection_fields
from gateway.channels.names import channel_of
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.http.origin_policy import host_name
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.refusals import Refusals
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.ports.errors import NotAuthorized, TooManyRefusals

log = structlog.get_logger(__name__)

_MAX_SIGNS: Final = 10_000
_MAX_RULES: Final = 4096
_MAX_WARNINGS: Final = 1024
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")
_NEEDS_SIGN: Final = text(403, "a play sign is needed: ?sign=<expiry>-<hash>")
_INVALID_PROTECTION: Final = text(403, "this channel's protection is not understood: nobody may play it")
_REFERER_REFUSED: Final = text(403, "this channel may not be embedded by that page")


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one channel, read once from its fields. channel: None for unknown channels.

    auth: "none", "sign", "cloudfront" or NO_PLAYBACK.
    """

    channel: Channel | None
    auth: str
    referers: tuple[str, ...]


@dataclass(kw_only=True, eq=False, repr=False, slots=True)
class PlaybackProtection:
    """Checks requests for a channel's media. Hot path; it never waits.

    auth and referers apply to channels without their own `playAuth` and `refererAllow`.
    They also apply to unknown channels, so that answers do not show which channels exist.
    A channel with invalid fields cannot be played.
    needs_sign: False: the auth hook decides instead of play signs.
    Every credential is verified, even after refusals.
    After `refusals_per_minute` refused credentials of an address, wrong credentials get 429 for the rest of the minute
    and are not logged. Counters: `refused` by reason.
    """

    auth: str
    referers: Sequence[str]
    secrets: SigningSecrets
    cloudfront: CloudFrontVerifier | None
    refusals_per_minute: InitVar[int]
    needs_sign: bool = True
    clocks: Clocks = SYSTEM_CLOCKS
    refused: dict[str, int] = field(default_factory=dict, init=False)
    _rules: BoundedDict[str, _Rules] = field(default_factory=lambda: BoundedDict(_MAX_RULES), init=False)
    # The invalid fields that were logged: channel, field, value. The dict is an ordered set.
    _logged: BoundedDict[tuple[str, str, str], None] = field(
        default_factory=lambda: BoundedDict(_MAX_WARNINGS), init=False
    )
    # Expiry times (seconds since 1970) of valid signs, by channel and sign.
    _signs: BoundedDict[tuple[str, str], int] = field(default_factory=lambda: BoundedDict(_MAX_SIGNS), init=False)
    _refusals: Refusals = field(init=False)
    _clock: Callable[[], float] = field(init=False)
    _monotonic: Callable[[], float] = field(init=False)
    _default: _Rules = field(init=False)
    _rotations: int = field(init=False)  # rotation count of the secrets that verified `_signs`

    def __post_init__(self, refusals_per_minute: int) -> None:
        self._refusals = Refusals(refusals_per_minute)
        self._clock, self._monotonic = self.clocks.wall, self.clocks.monotonic
        self._default = _Rules(None, self._auth(self.auth), tuple(r.lower() for r in self.referers))
        self._rotations = self.secrets.rotations

    def judge(self, request: Request, name: str, channel: Channel | None) -> Response | None:
        """Returns the refusal if the viewer has no permission for the stream `name`; otherwise None.

        channel: the stream's channel; None if it is unknown.
        """
        rules = self._rules.get(channel.id) if channel is not None else self._default
        if rules is None or rules.channel is not channel:
            rules = self._read_rules(channel)
        auth, referers = rules.auth, rules.referers
        if referers and not embeddable(request, referers):
            self._count("referer")
            return _REFERER_REFUSED
        if auth == "none":
            return None
        if auth == "sign":
            return self._check_sign(request, channel_of(name))
        if auth == NO_PLAYBACK:
            self._count("not understood")
            return _INVALID_PROTECTION
        return self._check_cloudfront(request)

    def judge_sign(self, name: str, channel: Channel | None, sign: str | None, address: str | None) -> None:
        """Checks the permission of an RTMP player. Raises NotAuthorized, TooManyRefusals.

        They send no Referer, so `refererAllow` does not apply. A channel with CloudFront protection refuses them.

        address: None for a trusted proxy, whose address is not limited.
        """
        auth = self._read_rules(channel).auth
        if auth == "none":
            return
        verdict = Verdict.MISSING
        if auth == "sign":
            verdict = self.secrets.verify_play(channel_of(name), sign, self._clock())
        if verdict is Verdict.VALID:
            return
        if sign and address is not None and self._refusals.add(address, self._monotonic()):
            self._count("blocked")
            raise TooManyRefusals("too many refused keys from this address")
        self._count("not understood" if auth == NO_PLAYBACK else str(verdict))
        raise NotAuthorized(str(verdict))

    def needs_cloudfront(self, channel: Channel) -> bool:
        """Whether viewers play the channel only through CloudFront."""
        return self._read_rules(channel).auth == "cloudfront"

    def limits_pages(self, channel: Channel | None) -> bool:
        """Whether only some pages may embed the channel."""
        return bool(self._read_rules(channel).referers)

    def frame_ancestors(self, request: Request, channel: Channel | None) -> str:
        """Returns the sources (CSP) of the pages that may show the channel's pages in a frame; "": all pages may.

        A page in a frame requests its media itself: their Referer does not name the page around it.
        """
        referers = self._read_rules(channel).referers
        if not referers or "*" in referers:
            return ""
        own = host_name(f"//{request.host}")
        hosts = (own, *referers) if own and ":" not in own else referers
        # CSP 3 §6.7.2: a source with http also matches https; without a port it matches the standard one only.
        return " ".join(("'self'", *(f"http://{host}" if _PORT.search(host) else f"http://{host}:*" for host in hosts)))

    # ---- play signs ----

    def _check_sign(self, request: Request, id: str) -> Response | None:
        signs = [part[5:] for part in request.raw_query.split("&") if part.startswith("sign=")]
        if not signs:
            self._count("missing")
            return _NEEDS_SIGN
        sign = unquote(signs[0])
        now = self._clock()
        if self._rotations != self.secrets.rotations:
            self._rotations = self.secrets.rotations
            self._signs.clear()
        expires = self._signs.get((id, sign))
        if expires is not None and len(signs) == 1 and expires >= int(now):
            return None
        if len(signs) > 1:
            return self._refuse(request, "wrong", "the play sign appears twice")
        verdict = self.secrets.verify_play(id, sign, now)
        if verdict is Verdict.VALID:
            self._signs[id, sign] = int(sign.partition("-")[0])
            return None
        if verdict is Verdict.EXPIRED:
            return self._refuse(request, "expired", "the play sign has expired")
        return self._refuse(request, "wrong", "the play sign is wrong")

    # ---- CloudFront ----

    def _check_cloudfront(self, request: Request) -> Response | None:
        verifier = self.cloudfront
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

    def _refuse(self, request: Request, counter: str, reason: str) -> Response:
        """Returns 403, or 429 above the limit of the address. Only wrong credentials count, not missing ones.

        counter: the key in `refused`. reason: the text for the client and the log.
        """
        if not request.exempt and (seconds := self._refusals.add(request.peer, self._monotonic())):
            self._count("blocked")
            return service_unavailable("too many refused requests from this address", seconds, 429)
        log.info("playback refused", path=request.path[:200], peer=request.peer, reason=reason)
        self._count(counter)
        return text(403, reason)

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _read_rules(self, channel: Channel | None) -> _Rules:
        if channel is None:
            return self._default
        self._log_invalid(channel)
        referers = channel.referer_allow
        if referers is None:
            referers = self._default.referers
        rules = _Rules(channel, self._auth(channel.play_auth or self.auth), referers)
        self._rules[channel.id] = rules
        return rules

    def _auth(self, auth: str) -> str:
        return auth if self.needs_sign or auth != "sign" else "none"

    def _log_invalid(self, channel: Channel) -> None:
        """Logs invalid protection fields, once for each channel and value."""
        for name, value in invalid_protection_fields(channel.item).items():
            warning = (channel.id, name, repr(value)[:1000])
            if warning not in self._logged:
                log.warning(
                    "the channel's protection is not understood: nobody may play it",
                    stream=channel.id,
                    field=name,
                    value=repr(value)[:100],
                )
            self._logged[warning] = None


def embeddable(request: Request, allowed: Sequence[str]) -> bool:
    """Whether the requesting page may embed the channel.

    Allowed are pages on the list, pages on this host (for example the console, at another port), and unknown pages.
    Players outside browsers send no Referer and are allowed (like nginx's `valid_referers none`).
    A page that hides its Referer still sends an Origin with cross-origin requests. `Origin: null` is refused.
    A link to one of the channel's pages embeds nothing. Browsers say which request is one, and pages cannot.
    """
    if request.path.endswith("/") and request.headers.get("sec-fetch-dest") == "document":
        return True
    referer = request.headers.get("referer") or request.headers.get("origin")
    if not referer:
        return True
    try:
        parts = urlsplit(referer)
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
