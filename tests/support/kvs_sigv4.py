"""Verifies Signature Version 4 of PutMedia requests in the forms that producers use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import ReadOnlyCredentials

EMPTY = hashlib.sha256(b"").hexdigest()
# The SDK for Java signs this text. The producer SDK in C signs the hash of an empty body, without a header for it.
FORMS = (EMPTY, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
SKEW_SECONDS = 300


class NotSigned(Exception):
    """The service would refuse the signature; the message has the reason."""


@dataclass(frozen=True)
class Key:
    """Credentials known to the service. expires: seconds since the epoch, 0: never."""

    id: str
    secret: str
    token: str = ""
    expires: float = 0.0


class _Again(SigV4Auth):
    """Repeats the signature with a given payload hash."""

    def __init__(self, key: Key, region: str, signed: list[str], payload: str) -> None:
        super().__init__(ReadOnlyCredentials(key.id, key.secret, None), "kinesisvideo", region)
        self._signed, self._hash = signed, payload

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        chosen = HTTPHeaders()
        for name in self._signed:
            chosen[name] = request.headers.get(name, "")
        return chosen

    def payload(self, request: AWSRequest) -> str:
        return self._hash


def verify(url: str, headers: Mapping[str, str], keys: Mapping[str, Key], now: float) -> Key:
    """Returns the key that signed a POST request to `url`. Raises `NotSigned`."""
    names = {name.lower(): value for name, value in headers.items()}
    query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if "X-Amz-Signature" in query:
        given = query.pop("X-Amz-Signature")
        credential, signed = query.get("X-Amz-Credential", ""), query.get("X-Amz-SignedHeaders", "")
        stamp, token = query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token", "")
        url = url.partition("?")[0] + "?" + urlencode(query)
    else:
        parts = names.get("authorization", "").removeprefix("AWS4-HMAC-SHA256 ").split(",")
        fields = dict(part.strip().partition("=")[::2] for part in parts)
        given, credential = fields.get("Signature", ""), fields.get("Credential", "")
        signed, stamp = fields.get("SignedHeaders", ""), names.get("x-amz-date", "")
        token = names.get("x-amz-security-token", "")
    scope = credential.split("/")
    if len(scope) != 5 or scope[3:] != ["kinesisvideo", "aws4_request"]:
        raise NotSigned(f"the scope {credential!r}")
    key = keys.get(scope[0])
    if key is None or key.token != token:
        raise NotSigned("an unknown key or another token")
    if key.expires and key.expires <= now:
        raise NotSigned("the token has expired")
    try:
        made = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise NotSigned(f"the date {stamp!r}") from None
    if abs(made - now) > SKEW_SECONDS or scope[1] != stamp[:8]:
        raise NotSigned("the date is off")
    chosen = signed.split(";")
    if "host" not in chosen:
        raise NotSigned("the host is not signed")
    said = names.get("x-amz-content-sha256")
    for payload in FORMS if said is None else (said,):
        if payload not in FORMS:
            raise NotSigned(f"the payload's hash {payload!r}")
        request = AWSRequest("POST", url, headers={n: names.get(n, "") for n in chosen})
        request.context["timestamp"] = stamp
        auth = _Again(key, scope[2], chosen, payload)
        canonical = auth.canonical_request(request)
        if auth.signature(auth.string_to_sign(request, canonical), request) == given:
            return key
    raise NotSigned("the signature does not match")
