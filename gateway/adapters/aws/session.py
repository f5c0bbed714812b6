"""One client per AWS service, created on first use, with time-outs that detect an unavailable service."""

import asyncio
import base64
import contextlib
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from gateway.lib.certificates import outgoing_tls
from gateway.lib.sockets import ListenError
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.settings.models import S3Settings

CONNECT_TIMEOUT: Final = 2
READ_TIMEOUT: Final = 3
# For a whole call with its second attempt. An unavailable service must be detected within 8 s, and the caller needs the
# remaining time.
CALL_TIMEOUT: Final = 6.0
_CONFIG: Final = Config(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"total_max_attempts": 2, "mode": "standard"},
    max_pool_connections=50,
    tcp_keepalive=True,
)
# S3 may need more time for a large object. Signature version 4 also applies to presigned URLs. A slow viewer of an
# object keeps its connection for minutes, and other calls must not wait for that.
_TRANSFERS: Final = _CONFIG.merge(Config(read_timeout=20, signature_version="s3v4", max_pool_connections=10_000))
# Other stores may not know the checksums that boto adds since 2025.
_NO_CHECKSUMS: Final = Config(
    request_checksum_calculation="when_required", response_checksum_validation="when_required"
)
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

# The operations of S3 that Millrace calls and that require a checksum.
_WITH_CHECKSUM: Final = ("DeleteObjects", "PutBucketLifecycleConfiguration")
_ANY_REGION: Final = "us-east-1"  # what most stores beside AWS call their region

# Returns the error to raise for an error of AWS; None: StoreUnavailable.
ErrorMap: TypeAlias = Callable[[ClientError], Exception | None]


def unmapped(error: ClientError) -> None:
    """Returns None, so that all errors of the call become StoreUnavailable. See ErrorMap."""


class AwsSession(AbstractAsyncContextManager["AwsSession"]):
    """Clients by service name; use as `async with`.

    The standard environment variables set region, credentials and endpoints. s3: those of the service "s3" alone.
    ca: a file of authorities that are trusted besides boto's and the system's. `tls`: the context with them, or None.
    """

    def __init__(self, s3: S3Settings | None = None, ca: Path | None = None) -> None:
        self._s3 = s3
        try:
            self.tls = outgoing_tls(ca)
        except ListenError as error:
            raise StoreUnusable(str(error)) from None
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self._create_lock = asyncio.Lock()
        try:
            # botocore itself reads only AWS_DEFAULT_REGION; every other SDK reads AWS_REGION first.
            region = os.environ.get("AWS_REGION") or (s3.region if s3 is not None else "")
            if s3 is not None and s3.endpoint:
                region = region or _ANY_REGION
            self._session = aioboto3.Session(region_name=region or None)
        except ProfileNotFound as e:
            raise StoreUnusable(f"AWS: {e}") from None
        if self._session.region_name is None:
            raise StoreUnusable("AWS: no region: set AWS_REGION")

    async def __aexit__(self, *error: object) -> None:
        self._clients.clear()
        await self._stack.aclose()

    @property
    def region(self) -> str:
        """The region of calls without a region."""
        return str(self._session.region_name)

    @property
    def browsers_reach_s3(self) -> bool:
        """Whether browsers may reach S3: not plain http, a numeric address or a name without a dot as its endpoint.

        Pages over https may not send to http, and such addresses are mostly those of an internal network.
        """
        endpoint = self._s3.endpoint if self._s3 is not None else ""
        return not endpoint or (endpoint.startswith("https:") and _has_subdomains(endpoint))

    @property
    def has_other_store(self) -> bool:
        """Whether S3 has an address of its own: mostly a store that is not of AWS."""
        return bool(self._s3 is not None and self._s3.endpoint) or any(map(os.environ.get, _ENDPOINTS))

    async def credentials(self) -> Any:
        """Returns the botocore credentials of this process, or None. botocore refreshes credentials that expire."""
        return await self._session.get_credentials()

    async def client(self, service: str, region: str = "", *, wait: int = 0) -> Any:
        """Returns the client of a service such as "dynamodb".

        region: instead of the configured one; "": the configured one. wait: see `client_for`.
        """
        async with self._create_lock:
            name = "@".join(filter(None, (service, region, str(wait or ""))))
            if name not in self._clients:
                try:
                    config = _TRANSFERS if service == "s3" else _CONFIG
                    is_other_store = service == "s3" and self.has_other_store
                    if is_other_store:
                        config = config.merge(_NO_CHECKSUMS)
                    if wait:
                        config = config.merge(Config(read_timeout=wait + READ_TIMEOUT))
                    options: dict[str, Any] = {"region_name": region or None, "config": config}
                    if service == "s3" and self._s3 is not None and not region:
                        options = _s3_options(self._s3, config)
                    if self.tls is not None:
                        options["config"] = AioConfig().merge(options["config"])
                        options["config"].http_session_cls = _session_with(self.tls)
                    if "aws_access_key_id" not in options and await self.credentials() is None:
                        raise NoCredentialsError  # a client that is made now would never find those that come later
                    context = self._session.client(service, **options)
                    client = self._clients[name] = await self._stack.enter_async_context(context)
                    if is_other_store:
                        for operation in _WITH_CHECKSUM:
                            client.meta.events.register(f"before-call.s3.{operation}", _send_md5)
                except (NoRegionError, ValueError) as e:
                    raise StoreUnusable(f"AWS {service}: {e}") from None
            return self._clients[name]

    @contextlib.asynccontextmanager
    async def client_for(
        self, service: str, label: str, region: str = "", seconds: float = 0, wait: int = 0, errors: ErrorMap = unmapped
    ) -> AsyncIterator[Any]:
        """Yields the client for one call with a time-out. Raises StoreUnavailable for errors that the block does not
        handle.

        label: names the object in messages, for example "table video-metadata".
        seconds: time-out of a call that transfers much data.
        wait: seconds that a long poll may take before the service answers.
        errors: other errors to raise for some errors of AWS.
        """
        try:
            async with asyncio.timeout(seconds or wait + CALL_TIMEOUT):
                yield await self.client(service, region, wait=wait)
        except TimeoutError:
            raise StoreUnavailable(f"{service} ({label}) does not answer") from None
        except ClientError as e:
            if (error := errors(e)) is not None:
                raise error from None
            raise StoreUnavailable(f"{service} ({label}) rejected the request: {error_code(e)}") from e
        except (BotoCoreError, OSError, aiohttp.ClientError) as e:  # the last: an object that breaks off
            raise StoreUnavailable(f"{service} ({label}) is not available: {_reason(e)}") from e
        except RuntimeError as e:
            if "refreshed credentials" not in str(e):
                raise
            # botocore raises no error of its own when a role or a program returns credentials that have expired.
            raise StoreUnavailable(f"{service} ({label}) is not available: new credentials have expired") from e


def _reason(error: Exception) -> str:
    """Returns the name of an error, or why a certificate was refused."""
    refused = getattr(error.__context__, "certificate_error", None)
    if refused is None:
        return type(error).__name__
    return f"its certificate is not trusted: {getattr(refused, 'verify_message', refused)}"


def _session_with(tls: ssl.SSLContext) -> type[AIOHTTPSession]:
    """Returns the HTTP sessions of clients that trust the authorities of `tls` besides boto's."""

    class Session(AIOHTTPSession):  # type: ignore[misc]
        def _get_ssl_context(self) -> ssl.SSLContext:  # no argument of a client adds to boto's authorities
            return tls

    return Session


def _has_subdomains(endpoint: str) -> bool:
    """Whether the name of a bucket can stand before the host: not before a numeric address or a name without a dot."""
    host = urlsplit(endpoint).hostname or ""
    return "." in host and not host.rpartition(".")[2].isdigit()


def _s3_options(s3: S3Settings, config: Config) -> dict[str, Any]:
    """Returns the arguments of a client of `s3.endpoint`, or of AWS."""
    if s3.path_style or s3.endpoint:  # without a style, boto uses the path at any address but that of AWS
        style = "path" if s3.path_style or not _has_subdomains(s3.endpoint) else "virtual"
        config = config.merge(Config(s3={"addressing_style": style}))
    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key.get_secret_value()}
    return {
        "config": config,
        "endpoint_url": s3.endpoint or None,
        "region_name": s3.region or None,
        **(keys if s3.access_key else {}),
    }


def _send_md5(params: dict[str, Any], **_: Any) -> None:
    """Sends the checksum that boto sent until 2025: many stores beside AWS require it, and some refuse CRC32."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
    params["context"].pop("checksum", None)


async def call(client: AbstractAsyncContextManager[Any], operation: str, /, **parameters: Any) -> Any:
    """Returns the answer of one operation, such as "get_item". client: of `client_for`."""
    async with client as opened:
        return await getattr(opened, operation)(**parameters)


async def pages(ask: Callable[..., Awaitable[Any]], token: str, next_token: str = "") -> AsyncIterator[Any]:
    """Yields the answers of a call up to its last page.

    token: the parameter of `ask` for the next page. next_token: the member of an answer with its value; "": as `token`.
    """
    page: dict[str, Any] = {}
    while True:
        answer = await ask(**page)
        yield answer
        if not (value := answer.get(next_token or token)):
            return
        page = {token: value}


def error_code(error: ClientError) -> str:
    """Returns the code of an AWS error, for example "ConditionalCheckFailedException"."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))
