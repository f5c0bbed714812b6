"""Verifies CloudFront signed URLs and signed cookies: canned and custom policies, RSA and ECDSA keys.

Amazon CloudFront Developer Guide, "Serving private content with signed URLs and signed cookies". The caller passes the
time. Invalid input of clients does not raise exceptions: it is refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.http.request import Request
from gateway.lib.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from gateway.playback.cloudfront_keys import PublicKey

_PARAMETERS: Final = ("Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm")
_UNSIGNED_PREFIX: Final = "_HLS_"  # delivery directives, which a player adds to the signed address
_UNSIGNED_NAME: Final = "CMCD"  # the player's own data (CTA-5004), which it adds to the signed address
COOKIE: Final = "CloudFront-"  # prefix of the names
_HASHES: Final = frozenset({"SHA1", "SHA256"})
_MAX_VERIFIED: Final = 4096
_MAX_TIME: Final = 2**53


@dataclass(frozen=True, slots=True)
class Policy:
    """The conditions of a verified policy.

    before, after: seconds since 1970; after: None if there is no start time. network: None for all clients.
    """

    resource: str
    before: int
    after: int | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def refusal(self, url: str, peer: str, now: float) -> str | None:
        """Returns a reason if this policy does not allow `url` for `peer` at `now`; otherwise None."""
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
    """The parts of a signature as received; "" for a missing part. Only one of policy and expires is set."""

    expires: str
    policy: str
    signature: str
    key_id: str
    algorithm: str


class CloudFrontVerifier:
    """Checks requests by their signed URL. If the URL is not signed, checks the signed cookies.

    public_url: the scheme, host and optional path that signers use; "": the scheme and host of the request.
    The client chooses these, so set `public_url` if one key signs for several hosts.
    The last 4,096 verified signatures are cached. Their conditions are checked every time.
    """

    def __init__(self, keys: Mapping[str, PublicKey], public_url: str, origin_secret: str) -> None:
        self._keys = dict(keys)
        self._public_url = public_url
        self._origin_secret = origin_secret.encode()
        self._verified: BoundedDict[tuple[str, str, str, str], Policy] = BoundedDict(_MAX_VERIFIED)
        self.verifications = 0

    def from_origin(self, request: Request) -> bool:
        """Whether CloudFront sent the request, and so has checked it. Such a request contains the origin secret."""
        secret = request.headers.get("x-millrace-origin")
        if secret is None or not self._origin_secret:
            return False
        return hmac.compare_digest(secret.encode("latin-1", "replace"), self._origin_secret)

    def judge(self, request: Request, now: float) -> str | None:
        """Returns the reason for a refusal, as a text for the client; None if the request is allowed."""
        signed_query, parameters, is_repeated = _split_query(request.raw_query)
        if is_repeated:
            return "a signing parameter appears twice"
        if not parameters:
            parameters, is_repeated = _signing_cookies(request.headers.get("cookie", ""))
            if is_repeated:
                return "a signing cookie appears twice"
            if not parameters:
                return "a CloudFront signature is needed"
        signed = _Signed(*(parameters.get(name, "") for name in _PARAMETERS))
        if not signed.signature or not signed.key_id or bool(signed.policy) is bool(signed.expires):
            return "the signature is incomplete"
        base = self._public_url or f"{request.scheme}://{request.host}"
        url = f"{base}{request.raw_path}{'?' if signed_query else ''}{signed_query}"
        policy = self._policy(signed, url)
        if isinstance(policy, str):
            return policy
        return policy.refusal(url, request.peer, now)

    def _policy(self, signed: _Signed, url: str) -> Policy | str:
        """Returns the signed policy, or the reason why it is not valid."""
        if signed.policy:
            text = signed.policy
        else:
            if not (signed.expires.isascii() and signed.expires.isdigit() and len(signed.expires) <= 16):
                return "malformed Expires"
            # A canned policy is not sent. Both sides write it for the address in exactly one form.
            text = canned_policy(url, signed.expires)
        identity = (text, signed.signature, signed.key_id, signed.algorithm)
        cached = self._verified.get(identity)
        if cached is not None:
            self._verified.move_to_end(identity)
            return cached
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
        from gateway.playback.cloudfront_keys import is_valid_signature  # here, because it needs 7 MB of memory

        if not is_valid_signature(key, signature, message, algorithm):
            return "the signature is wrong"
        try:
            policy = parse_policy(message)
        except ValueError as error:
            return f"the policy cannot be used: {error}"
        self._verified[identity] = policy
        return policy


def canned_policy(url: str, expires: str) -> str:
    """Returns the policy of a canned signature, exactly as it is signed."""
    return f'{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}'


def parse_policy(message: bytes) -> Policy:
    """Parses a policy with a verified signature. Raises ValueError for unknown parts: they could be conditions."""
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
    """Whether `text` matches `pattern`: "*" stands for any characters, "?" for any one character.

    at, here: positions in the text and in the pattern. star: position of the last "*" in the pattern; -1: none.
    mark: position in the text at which the characters of this "*" end.
    """
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
    """Decodes CloudFront's base64, with "-", "_" and "~" for "+", "=" and "/". Raises ValueError if malformed."""
    try:
        return base64.b64decode(text.translate(_FROM_URL).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64") from None


_FROM_URL: Final = str.maketrans("-_~", "+=/")


def _time(condition: object) -> int | None:
    if condition is None:
        return None
    value = condition.get("AWS:EpochTime") if isinstance(condition, dict) and len(condition) == 1 else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_TIME:
        raise ValueError("a time is a number of seconds")
    return value


def _network(condition: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if condition is None:
        return None
    value = condition.get("AWS:SourceIp") if isinstance(condition, dict) and len(condition) == 1 else None
    if not isinstance(value, str):
        raise ValueError("AWS:SourceIp is an address or a network")
    network = ipaddress.ip_network(value, strict=False)
    # In the guide, "0.0.0.0/0" means every client, also with an IPv6 address.
    return None if network.prefixlen == 0 else network


def _split_query(raw: str) -> tuple[str, dict[str, str], bool]:
    """Returns the signed part of a raw query, the signing parameters, and whether one of these occurs twice."""
    if not raw:
        return "", {}, False
    signed_parts: list[str] = []
    found: dict[str, str] = {}
    is_repeated = False
    for part in raw.split("&"):
        name, _, value = part.partition("=")
        if name in _PARAMETERS:
            is_repeated |= name in found
            found[name] = value
        elif not name.startswith(_UNSIGNED_PREFIX) and name != _UNSIGNED_NAME:
            signed_parts.append(part)
    return "&".join(signed_parts), found, is_repeated


def _signing_cookies(header: str) -> tuple[dict[str, str], bool]:
    found: dict[str, str] = {}
    is_repeated = False
    for part in header.split(";"):
        name, equals, value = part.strip().partition("=")
        if equals and name.startswith(COOKIE):
            name = name.removeprefix(COOKIE)
            is_repeated |= name in found
            found[name] = value.strip('"')
    return found, is_repeated
