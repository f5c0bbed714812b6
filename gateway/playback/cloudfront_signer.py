"""Makes CloudFront signed URLs and signed cookies, with canned and custom policies.

Amazon CloudFront Developer Guide, "Serving private content with signed URLs and signed cookies".
`gateway.playback.cloudfront` verifies them.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.playback.cloudfront import COOKIE, canned_policy
from gateway.ports.errors import InvalidField

if TYPE_CHECKING:
    from gateway.playback.cloudfront_keys import PrivateKey

MAX_URL: Final = 2048  # characters
# A quotation mark or a backslash would change the text of a canned policy.
_URL: Final = re.compile(r"(?:https?|wss?)://[A-Za-z0-9._\[\]:-]+/[!#-\[\]-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class SigningConditions:
    """The users and the times for which a signed address is valid.

    before, after: seconds since 1970; after: None if there is no start time.
    network: an IPv4 address or network; "": all clients.
    custom: whether the policy is custom. Only a custom policy has a start time, a network or a resource with "*".
    """

    before: int
    after: int | None = None
    network: str = ""
    custom: bool = True

    @classmethod
    def of(cls, before: int, after: int | None, network: str, policy: str) -> SigningConditions:
        """Checks conditions of a request. policy: canned, custom, or "" for custom. Raises InvalidField."""
        if policy not in ("", "canned", "custom"):
            raise InvalidField("policy", "expected canned or custom")
        custom = policy != "canned"
        if not custom and (after is not None or network):
            raise InvalidField("policy", "a canned policy has no start time and no address of clients")
        if after is not None and after >= before:
            raise InvalidField("from", "the start is after the expiry")
        try:
            network = str(ipaddress.IPv4Network(network)) if network else ""
        except ValueError:
            raise InvalidField("ip", "expected an IPv4 address or network, such as 192.0.2.0/24") from None
        return cls(before, after, network, custom)


class CloudFrontSigner:
    """Signs with one private key. key_id: the id of its public key at CloudFront, or in `cloudfront.public_keys`."""

    def __init__(self, key_id: str, key: PrivateKey) -> None:
        self._key_id = key_id
        self._key = key

    def sign(self, resource: str, conditions: SigningConditions) -> dict[str, str]:
        """Signs a URL, and returns its parameters. With the prefix `CloudFront-`, these are the names of the cookies.

        resource: the address that may be requested. In a custom policy, "*" stands for any characters.
        """
        from gateway.playback.cloudfront_keys import make_signature  # here, because it needs 7 MB of memory

        if conditions.custom:
            policy = custom_policy(resource, conditions)
            first = {"Policy": _encode(policy)}
        else:
            policy = canned_policy(resource, str(conditions.before)).encode()
            first = {"Expires": str(conditions.before)}
        return {**first, "Signature": _encode(make_signature(self._key, policy)), "Key-Pair-Id": self._key_id}


def custom_policy(resource: str, conditions: SigningConditions) -> bytes:
    """Returns a custom policy, in the form of Amazon's own SDKs."""
    condition: dict[str, Any] = {"DateLessThan": {"AWS:EpochTime": conditions.before}}
    if conditions.network:
        condition["IpAddress"] = {"AWS:SourceIp": conditions.network}
    if conditions.after is not None:
        condition["DateGreaterThan"] = {"AWS:EpochTime": conditions.after}
    statement = {"Resource": resource, "Condition": condition}
    return json.dumps({"Statement": [statement]}, separators=(",", ":")).encode()


def signed_url(url: str, parameters: Mapping[str, str]) -> str:
    """Returns the URL with the parameters of a signature."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{query}"


def signed_cookies(parameters: Mapping[str, str]) -> dict[str, str]:
    """Returns the cookies of a signature."""
    return {COOKIE + name: value for name, value in parameters.items()}


def resource_of(url: str) -> str:
    """Returns the resource that a signed URL needs: for a playlist or a page its folder, for another file the URL."""
    path, _, _ = url.partition("?")
    if path.endswith((".m3u8", ".mpd", ".html", "/")):
        return f"{path.rpartition('/')[0]}/*"
    return url


def check_url(text: str) -> str:
    """Returns an address that can be signed. Raises InvalidField."""
    if len(text) > MAX_URL or not _URL.fullmatch(text):
        raise InvalidField("url", f"expected an address with a path, at most {MAX_URL} ASCII characters")
    return text


def _encode(data: bytes) -> str:
    """Encodes base64 as CloudFront expects it: "-", "_" and "~" for "+", "=" and "/"."""
    return base64.b64encode(data).decode().translate(_TO_URL)


_TO_URL: Final = str.maketrans("+=/", "-_~")
