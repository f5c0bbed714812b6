"""CloudFront signed URLs and signed cookies, verified by ourselves: canned and custom policies, RSA and ECDSA keys.

Amazon CloudFront Developer Guide, "Serving private content with signed URLs and signed cookies". Pure: the caller
passes the time. Nothing here raises for what a client sends; every doubt is a refusal.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.servers.request import Request

if TYPE_CHECKING:
    from gateway.servers.signatures import PublicKey

_SIGNING: Final = frozenset({"Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"})
_NOT_SIGNED: Final = "_HLS_"  # delivery directives, which a player adds to the address it was given
_COOKIE: Final = "CloudFront-"
_HASHES: Final = frozenset({"SHA1", "SHA256"})
_MOST_VERIFIED: Final = 4096
_FAR: Final = 2**53

UNKNOWN: Final = "not verified"  # an answer of `judge`: the signature is new, and may not be verified now


@dataclass(frozen=True, slots=True)
class Policy:
    """What a verified statement allows. Times are seconds since the epoch; after: None where it holds from ever."""

    resource: str
    before: int
    after: int | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def refusal(self, url: str, peer: str, now: float) -> str | None:
        """Why this policy does not open `url` to `peer` at `now`; None where it does."""
        if now >= self.before:
            return "the signature has expired"
        if self.after is not None and now <= self.after:
            return "the signature is not valid yet"
        if not matches(self.resource, url):
            return "the signature is for another address"
        if self.network is not None:
            try:
                inside = ipaddress.ip_address(peer) in self.network
            except ValueError:
                inside = False
            if not inside:
                return "the signature is for another client"
        return None


@dataclass(frozen=True, slots=True)
class _Signed:
    """The parts of a signature as they came; "" where one is missing. policy and expires exclude each other."""

    expires: str
    policy: str
    signature: str
    key_id: str
    algorithm: str


class CloudFront:
    """Judges requests by their signed URL or, where that is unsigned, by their signed cookies.

    public_url: the scheme, host and perhaps path that signers sign; "" for the request's own scheme and host, which a
    client chooses: whoever signs for several hosts with one key should set it. Verified signatures are remembered
    (the last few thousand), their conditions are checked every time.
    """

    def __init__(self, keys: Mapping[str, PublicKey], public_url: str, origin_secret: str) -> None:
        self._keys = dict(keys)
        self._public_url = public_url
        self._origin_secret = origin_secret.encode()
        self._verified: OrderedDict[tuple[str, str, str, str], Policy] = OrderedDict()
        self.verifications = 0

    def from_origin(self, request: Request) -> bool:
        """Whether CloudFront itself sent the request and has therefore checked it: it knows the origin secret."""
        said = request.headers.get("x-millrace-origin")
        if said is None or not self._origin_secret:
            return False
        return hmac.compare_digest(said.encode("latin-1", "replace"), self._origin_secret)

    def judge(self, request: Request, now: float, *, verify: bool = True) -> str | None:
        """Why the request is refused, in words for the client; None: it is allowed.

        verify False: only signatures that were verified before count; UNKNOWN stands for any other.
        """
        rest, parameters, doubled = _split_query(request.raw_query)
        if doubled:
            return "a signing parameter stands there twice"
        if parameters:
            signed = _Signed(*(parameters.get(n, "") for n in _ORDER))
        else:
            cookies, doubled = _signing_cookies(request.headers.get("cookie", ""))
            if doubled:
                return "a signing cookie stands there twice"
            if not cookies:
                return "a CloudFront signature is needed"
            signed = _Signed(*(cookies.get(n, "") for n in _ORDER))
        if not signed.signature or not signed.key_id or bool(signed.policy) is bool(signed.expires):
            return "the signature is incomplete"
        base = self._public_url or f"{request.scheme}://{request.host}"
        url = f"{base}{request.raw_path}{'?' if rest else ''}{rest}"
        policy = self._policy(signed, url, verify)
        if isinstance(policy, str):
            return policy
        return policy.refusal(url, request.peer, now)

    def _policy(self, signed: _Signed, url: str, verify: bool) -> Policy | str:
        """The policy that was signed, or why it does not count."""
        if signed.policy:
            text = signed.policy
        else:
            if not (signed.expires.isascii() and signed.expires.isdigit() and len(signed.expires) <= 16):
                return "malformed Expires"
            # A canned policy is not sent: both sides write it down for the very address, in the very same way.
            text = canned_policy(url, signed.expires)
        identity = (text, signed.signature, signed.key_id, signed.algorithm)
        known = self._verified.get(identity)
        if known is not None:
            self._verified.move_to_end(identity)
            return known
        if not verify:
            return UNKNOWN
        key = self._keys.get(signed.key_id)
        algorithm = signed.algorithm or "SHA1"
        if key is None or algorithm not in _HASHES:
            return "the signature is wrong"
        try:
            message = decode(text) if signed.policy else text.encode("latin-1")
            signature = decode(signed.signature)
        except ValueError:
            return "the signature is malformed"
        self.verifications += 1
        from gateway.servers.signatures import verifies  # 7 MB that a gateway without CloudFront saves

        if not verifies(key, signature, message, algorithm):
            return "the signature is wrong"
        try:
            policy = parse_policy(message)
        except ValueError as error:
            return f"the policy cannot be used: {error}"
        self._verified[identity] = policy
        if len(self._verified) > _MOST_VERIFIED:
            self._verified.popitem(last=False)
        return policy


_ORDER: Final = ("Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm")


def canned_policy(url: str, expires: str) -> str:
    """The policy that a canned signature stands for, to the byte."""
    return f'{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}'


def parse_policy(message: bytes) -> Policy:
    """A policy whose signature was verified. ValueError for what is not understood: a condition unread is none."""
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    if not isinstance(statements, list) or len(statements) != 1 or not isinstance(statements[0], dict):
        raise ValueError("one statement is expected")
    statement: dict[str, Any] = statements[0]
    resource = statement.get("Resource", "*")  # "If you omit the Resource parameter … access to all of the files"
    conditions = statement.get("Condition")
    if not isinstance(resource, str) or not isinstance(conditions, dict) or set(statement) - {"Resource", "Condition"}:
        raise ValueError("a resource and conditions are expected")
    if set(conditions) - {"DateLessThan", "DateGreaterThan", "IpAddress"}:
        raise ValueError("unknown condition")
    before = _time(conditions.get("DateLessThan"))
    if before is None:
        raise ValueError("DateLessThan is expected")
    return Policy(resource, before, _time(conditions.get("DateGreaterThan")), _network(conditions.get("IpAddress")))


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is what `pattern` describes: "*" is any run of characters, "?" any one character."""
    at = here = 0
    star, mark = -1, 0
    while at < len(text):
        if here < len(pattern) and pattern[here] == "*":
            star, mark = here, at
            here += 1
        elif here < len(pattern) and pattern[here] in ("?", text[at]):
            here += 1
            at += 1
        elif star >= 0:
            mark += 1
            here, at = star + 1, mark
        else:
            return False
    return pattern[here:].strip("*") == ""


def decode(text: str) -> bytes:
    """CloudFront's base64, with "-", "_" and "~" for "+", "=" and "/". ValueError where it is none."""
    try:
        return base64.b64decode(text.translate(_FROM_URL).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64") from None


_FROM_URL: Final = str.maketrans("-_~", "+=/")


def _time(condition: object) -> int | None:
    if condition is None:
        return None
    value = condition.get("AWS:EpochTime") if isinstance(condition, dict) and len(condition) == 1 else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _FAR:
        raise ValueError("a time is a number of seconds")
    return value


def _network(condition: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if condition is None:
        return None
    value = condition.get("AWS:SourceIp") if isinstance(condition, dict) and len(condition) == 1 else None
    if not isinstance(value, str):
        raise ValueError("AWS:SourceIp is an address or a network")
    network = ipaddress.ip_network(value, strict=False)
    # The guide writes "0.0.0.0/0" for every client, whatever its address looks like.
    return None if network.prefixlen == 0 else network


def _split_query(raw: str) -> tuple[str, dict[str, str], bool]:
    """What of a raw query is signed, the signing parameters, and whether one of those stands there twice."""
    if not raw:
        return "", {}, False
    kept: list[str] = []
    found: dict[str, str] = {}
    doubled = False
    for part in raw.split("&"):
        name, _, value = part.partition("=")
        if name in _SIGNING:
            doubled |= name in found
            found[name] = value
        elif not name.startswith(_NOT_SIGNED):
            kept.append(part)
    return "&".join(kept), found, doubled


def _signing_cookies(header: str) -> tuple[dict[str, str], bool]:
    found: dict[str, str] = {}
    doubled = False
    for part in header.split(";"):
        name, equals, value = part.strip().partition("=")
        if equals and name.startswith(_COOKIE):
            name = name.removeprefix(_COOKIE)
            doubled |= name in found
            found[name] = value.strip('"')
    return found, doubled
