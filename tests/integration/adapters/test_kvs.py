"""The control plane of Kinesis: endpoints, an assumed role, signatures, and error messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import boto3
import pytest
import pytest_asyncio
from botocore.exceptions import CredentialRetrievalError

from gateway.adapters.aws import kvs as module
from gateway.adapters.aws.kvs import AwsKvs, put_media_headers
from gateway.adapters.aws.session import AwsSession
from gateway.ports.errors import OutputError, StoreUnavailable
from tests.support import kvs
from tests.support.kvs_sigv4 import NotSigned, verify
from tests.support.putmedia import KvsDouble

ARN = "arn:aws:kinesisvideo:eu-central-1:123456789012:stream/lobby/1500000000000"


@pytest_asyncio.fixture
async def double(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KvsDouble]:
    async with KvsDouble() as made:
        made.add("lobby", retention=7)
        kvs.use(made, monkeypatch)
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [time.time()]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    yield now


@pytest.mark.parametrize(("stream", "header"), [("lobby", "x-amzn-stream-name"), (ARN, "x-amzn-stream-arn")])
async def test_a_request_is_addressed_and_signed(double: KvsDouble, stream: str, header: str) -> None:
    async with AwsSession() as session:
        request = await AwsKvs(session).put_media(stream, 1_700_000_000.005)
    assert request.url.endswith("/putMedia")
    assert request.expires == 0
    assert request.headers[header] == stream
    assert request.headers["x-amzn-producer-start-timestamp"] == "1700000000.005"
    assert "x-amz-content-sha256" not in {name.lower() for name in request.headers}
    sent = request.headers | {"host": request.url.split("/")[2]}
    assert verify(request.url, sent, double.keys, time.time()).id == "AKIATEST"
    with pytest.raises(NotSigned):
        verify(request.url, sent | {header: "attic"}, double.keys, time.time())


async def test_the_endpoint_is_requested_once_and_again_on_demand(double: KvsDouble) -> None:
    async with AwsSession() as session:
        endpoints = AwsKvs(session)
        await endpoints.put_media("lobby", 0)
        await endpoints.put_media("lobby", 0)
        assert double.calls == ["GetDataEndpoint"]
        await double.move(double.streams["lobby"])
        moved = await endpoints.put_media("lobby", 0, fresh=True)
        assert double.calls == ["GetDataEndpoint"] * 2
        assert moved.url == (await endpoints.put_media("lobby", 0)).url


async def test_a_role_is_assumed_anew_for_a_connection_that_comes_later(double: KvsDouble, clock: list[float]) -> None:
    async with AwsSession() as session:
        endpoints = AwsKvs(session, kvs.ROLE)
        first = await endpoints.put_media("lobby", 0)
        assert abs(first.expires - clock[0] - 3600) < 5
        assert first.headers["X-Amz-Security-Token"] == "token1"
        clock[0] += 100
        assert (await endpoints.put_media("lobby", 0)).headers["X-Amz-Security-Token"] == "token1"
        clock[0] += 300
        assert (await endpoints.put_media("lobby", 0)).headers["X-Amz-Security-Token"] == "token2"
        assert (await endpoints.put_media("lobby", 0, fresh=True)).headers["X-Amz-Security-Token"] == "token3"


async def test_a_stream_is_described(double: KvsDouble) -> None:
    async with AwsSession() as session:
        assert await AwsKvs(session).describe("lobby") == (ARN, 7)
        double.can_describe = False
        with pytest.raises(OutputError, match="AccessDeniedException"):
            await AwsKvs(session).describe("lobby")


async def test_a_missing_stream_and_an_unavailable_service_raise_different_errors(double: KvsDouble) -> None:
    async with AwsSession() as session:
        with pytest.raises(OutputError, match=r"\(attic\) rejected the request: ResourceNotFoundException"):
            await AwsKvs(session).put_media("attic", 0)
        double.down = True
        with pytest.raises(StoreUnavailable):
            await AwsKvs(session).put_media("lobby", 0)


async def test_a_role_that_cannot_be_assumed_gives_an_error(double: KvsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROLE_SESSION", "another")
    async with AwsSession() as session:
        with pytest.raises(OutputError, match="cannot be assumed: AccessDenied"):
            await AwsKvs(session, kvs.ROLE).put_media("lobby", 0)


async def test_without_credentials_the_error_names_the_missing_variable(
    double: KvsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AwsSession() as session:
        endpoints = AwsKvs(session)
        await endpoints.put_media("lobby", 0)
        monkeypatch.setattr(session, "credentials", lambda: asyncio.sleep(0))
        with pytest.raises(OutputError, match="AWS_ACCESS_KEY_ID"):
            await endpoints.put_media("lobby", 0)


async def test_credentials_that_cannot_be_renewed_now_are_an_outage(
    double: KvsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage keeps the fragments: any other error would end the sender with them."""

    async def fail() -> None:
        raise CredentialRetrievalError(provider="iam-role", error_msg="no answer")

    async with AwsSession() as session:
        endpoints = AwsKvs(session)
        await endpoints.put_media("lobby", 0)
        credentials = await session.credentials()
        monkeypatch.setattr(credentials, "get_frozen_credentials", fail)
        with pytest.raises(StoreUnavailable, match="CredentialRetrievalError"):
            await endpoints.put_media("lobby", 0)


async def test_a_data_endpoint_without_tls_needs_an_overridden_endpoint(
    double: KvsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real control plane would be requested over https."""
    async with AwsSession() as session:
        endpoints = AwsKvs(session)
        client = await session.client("kinesisvideo", None)
        monkeypatch.setattr(client.meta, "_endpoint_url", "https://kinesisvideo.eu-central-1.amazonaws.com")
        await endpoints.put_media("lobby", 0)
        monkeypatch.delenv("AWS_ENDPOINT_URL_KINESIS_VIDEO")
        with pytest.raises(OutputError, match="is not an https URL"):
            await endpoints.put_media("lobby", 0, fresh=True)


async def test_another_implementation_of_the_services_is_understood(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto returns an endpoint with a real AWS name, so the test sends nothing to it."""
    boto3.client("kinesisvideo", region_name="eu-central-1").create_stream(StreamName="hall", DataRetentionInHours=3)
    async with AwsSession() as session:
        endpoints = AwsKvs(session, kvs.ROLE)
        arn, _ = await endpoints.describe("hall")
        request = await endpoints.put_media(arn, 1.7e9)
    assert request.url.startswith("https://")
    assert ".kinesisvideo.eu-central-1.amazonaws.com/putMedia" in request.url
    assert request.headers["X-Amz-Security-Token"]
    assert request.expires > time.time() + 3000


def test_timestamps_have_three_decimal_places() -> None:
    assert put_media_headers("a", 1.005)["x-amzn-producer-start-timestamp"] == "1.005"
    assert put_media_headers("a", 1.0)["x-amzn-producer-start-timestamp"] == "1.000"
