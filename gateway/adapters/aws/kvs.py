"""The control plane of Kinesis Video Streams: data endpoints, an assumed role, and signatures of PutMedia."""

import os
import re
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, call, error_code
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import PutMediaRequest

ROLE_SESSION: Final = "kvs-stream"
ROLE_SECONDS: Final = 3600
# Connections that start within this time share an assumed role. Later connections assume it again.
ROLE_CACHE_SECONDS: Final = 300.0
MIN_REMAINING_SECONDS: Final = 600.0  # remaining lifetime that a shared role must still have
_SERVICE: Final = "kinesisvideo"
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kinesisvideo:([a-z0-9-]+):[0-9]{12}:stream/", re.ASCII)
# If one of these is set, AWS is a test server. Its data endpoints may use HTTP.
_OVERRIDES: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS_VIDEO")


@dataclass(frozen=True, slots=True)
class _Credentials:
    keys: ReadOnlyCredentials
    expires: float  # seconds since 1970; 0: never
    assumed_at: float = 0.0  # seconds since 1970


class AwsKvs:
    """A KvsEndpoints.

    role: ARN of the role to assume for sending, session `kvs-stream`; "": the process's own credentials.
    """

    def __init__(self, session: AwsSession, role: str = "") -> None:
        self._session = session
        self._role = role
        self._endpoints: dict[str, str] = {}
        self._assumed: _Credentials | None = None

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        """Returns a signed PutMedia request.

        Calls GetDataEndpoint if the endpoint is unknown, and AssumeRole if a role is set.
        """
        if fresh:
            self._endpoints.pop(stream, None)
            self._assumed = None
        endpoint = self._endpoints.get(stream)
        if endpoint is None:
            endpoint = self._endpoints[stream] = await self._data_endpoint(stream)
        credentials = await (self._assume() if self._role else self._own_credentials(stream))
        url = f"{endpoint}/putMedia"
        headers, region = put_media_headers(stream, start), _region_of(stream) or self._session.region
        return PutMediaRequest(url, sign(url, headers, credentials.keys, region), credentials.expires)

    async def describe(self, stream: str) -> tuple[str, int]:
        """Calls DescribeStream with the process's own credentials. Returns the ARN and the retention in hours."""
        info = (await call(self._client(stream), "describe_stream", **_stream_argument(stream)))["StreamInfo"]
        return str(info.get("StreamARN", stream)), int(info.get("DataRetentionInHours", 0))

    async def _data_endpoint(self, stream: str) -> str:
        async with self._client(stream) as client:
            answer = await client.get_data_endpoint(APIName="PUT_MEDIA", **_stream_argument(stream))
            test_server = client.meta.endpoint_url.startswith("http://")
        allow_http = test_server or any(os.environ.get(name) for name in _OVERRIDES)
        endpoint = str(answer.get("DataEndpoint", "")).rstrip("/")
        parts = urlsplit(endpoint)
        if not parts.hostname or parts.scheme not in (("https", "http") if allow_http else ("https",)):
            raise OutputError(f"the data endpoint of the Kinesis stream {stream} is not an https URL: {endpoint[:100]}")
        return endpoint

    async def _assume(self) -> _Credentials:
        now = time.time()
        last = self._assumed
        if last is not None and now < min(last.assumed_at + ROLE_CACHE_SECONDS, last.expires - MIN_REMAINING_SECONDS):
            return last
        client = self._session.client_for("sts", f"role {self._role}", errors=self._not_assumed)
        request = {"RoleArn": self._role, "RoleSessionName": ROLE_SESSION, "DurationSeconds": ROLE_SECONDS}
        response = (await call(client, "assume_role", **request))["Credentials"]
        keys = ReadOnlyCredentials(response["AccessKeyId"], response["SecretAccessKey"], response["SessionToken"])
        self._assumed = _Credentials(keys, response["Expiration"].timestamp(), now)
        return self._assumed

    def _not_assumed(self, error: ClientError) -> OutputError:
        return OutputError(f"the role {self._role} cannot be assumed: {error_code(error)}")

    async def _own_credentials(self, stream: str) -> _Credentials:
        async with self._client(stream):  # for its time-out and its errors, because expired ones are renewed here
            credentials = await self._session.credentials()
            if credentials is None:
                raise OutputError("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role")
            frozen = await credentials.get_frozen_credentials()
        # Only credentials of a role or a container expire. botocore has the time in a private attribute.
        expiry: Any = getattr(credentials, "_expiry_time", None)
        return _Credentials(ReadOnlyCredentials(*frozen[:3]), expiry.timestamp() if expiry is not None else 0.0)

    def _client(self, stream: str) -> AbstractAsyncContextManager[Any]:
        errors = partial(_to_error, stream)
        return self._session.client_for(_SERVICE, f"stream {stream}", _region_of(stream), errors=errors)


def _region_of(stream: str) -> str:
    """Returns the region of an ARN; "" for a plain stream name."""
    match = _ARN.match(stream)
    return match[1] if match is not None else ""


def put_media_headers(stream: str, start: float) -> dict[str, str]:
    """Returns the headers of PutMedia for a stream's name or ARN, without the signature.

    start: start time of the producer, seconds since 1970.
    """
    return {
        "Content-Type": "application/json",
        "x-amzn-stream-arn" if _ARN.match(stream) else "x-amzn-stream-name": stream,
        "x-amzn-fragment-timecode-type": "ABSOLUTE",
        "x-amzn-producer-start-timestamp": f"{start:.3f}",
        "x-amzn-fragment-acknowledgment-required": "1",
    }


def sign(url: str, headers: dict[str, str], keys: ReadOnlyCredentials, region: str) -> dict[str, str]:
    """Returns the headers with a Signature Version 4 of a POST for the service `kinesisvideo`.

    It covers the hash of an empty body. The body is sent later and is never signed, as in the producer SDK in C.
    """
    request = AWSRequest("POST", url, headers=dict(headers), data=b"")
    SigV4Auth(keys, _SERVICE, region).add_auth(request)
    return {name: str(value) for name, value in request.headers.items()}


def _stream_argument(stream: str) -> dict[str, str]:
    return {"StreamARN": stream} if _ARN.match(stream) else {"StreamName": stream}


def _to_error(stream: str, error: ClientError) -> OutputError | StoreUnavailable:
    """Returns StoreUnavailable for overload, because it is temporary. Returns OutputError for permanent errors."""
    code = error_code(error)
    if code in ("ClientLimitExceededException", "ThrottlingException", "InternalFailure", "ServiceUnavailable"):
        return StoreUnavailable(f"Kinesis Video Streams ({stream}) rejected the request: {code}")
    return OutputError(f"Kinesis Video Streams ({stream}) rejected the request: {code}")
