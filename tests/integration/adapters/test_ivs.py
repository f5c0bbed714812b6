"""Amazon IVS channels on moto, which is extended by stream keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from gateway.adapters.aws.ivs import AwsIvs
from gateway.adapters.aws.session import AwsSession
from gateway.channels.relay_urls import is_ivs_channel
from gateway.ports.errors import OutputError, StoreUnavailable
from tests.support.clock import Clock
from tests.support.ivs import KEY, IvsApi, ivs_api


@pytest.fixture
def api(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[IvsApi]:
    with ivs_api(aws) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IVS", api.url)
        yield api


@pytest_asyncio.fixture
async def ivs(api: IvsApi) -> AsyncIterator[AwsIvs]:
    async with AwsSession() as session:
        yield AwsIvs(session, Clock(0.0))


async def test_a_channel_is_made_shown_listed_and_deleted(ivs: AwsIvs) -> None:
    made = await ivs.create("cam-1", "BASIC", "NORMAL", authorized=True)
    assert is_ivs_channel(made.arn) and made.key == KEY and made.playback_url and made.server.endswith(":443/app/")
    assert (made.name, made.kind, made.latency, made.authorized) == ("cam-1", "BASIC", "NORMAL", True)
    assert KEY not in repr(made)
    shown = await ivs.show(made.arn)
    assert (shown.key, shown.endpoint) == ("", made.endpoint)
    assert [c.arn for c in await ivs.list()] == [made.arn]
    await ivs.delete(made.arn)
    assert await ivs.list() == []


async def test_the_ingest_data_of_a_channel_is_cached_for_a_while(ivs: AwsIvs, api: IvsApi) -> None:
    made = await ivs.create("cam", "STANDARD", "LOW", authorized=False)
    api.endpoints[made.arn] = "a1b2.global-contribute.live-video.net"
    told = await ivs.ingest(made.arn)
    assert (told.endpoint, told.key, told.kind) == ("a1b2.global-contribute.live-video.net", KEY, "STANDARD")
    asked = len(api.asked)
    assert await ivs.ingest(made.arn) == told and len(api.asked) == asked
    api.keys[made.arn] = "sk_us-west-2_new"
    assert (await ivs.ingest(made.arn, fresh=True)).key == "sk_us-west-2_new"
    asked = len(api.asked)
    ivs._clock.now = 601  # type: ignore[attr-defined]
    await ivs.ingest(made.arn)
    assert len(api.asked) > asked


async def test_an_unknown_channel_and_a_missing_stream_key_give_an_error(ivs: AwsIvs, api: IvsApi) -> None:
    arn = "arn:aws:ivs:eu-central-1:123456789012:channel/nobody"
    with pytest.raises(OutputError, match="IVS: there is no such channel"):
        await ivs.ingest(arn)
    made = await ivs.create("cam", "STANDARD", "LOW", authorized=False)
    del api.keys[made.arn]
    with pytest.raises(OutputError, match="has no stream key"):
        await ivs.ingest(made.arn)


async def test_an_outage_of_ivs_raises_store_unavailable(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_IVS", "http://127.0.0.1:1")
    async with AwsSession() as session:
        with pytest.raises(StoreUnavailable):
            await AwsIvs(session).ingest("arn:aws:ivs:eu-central-1:123456789012:channel/x")


async def test_a_channel_of_another_region_is_requested_from_that_region(ivs: AwsIvs, api: IvsApi) -> None:
    with pytest.raises(OutputError, match="no such channel"):
        await ivs.show("arn:aws:ivs:us-west-2:123456789012:channel/x")
    assert "ivs@us-west-2" in ivs._session._clients
