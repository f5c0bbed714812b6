"""DynamoDB with items of the original system, and failures of the service."""

import asyncio
import json
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.aws import session
from gateway.adapters.aws.attributes import from_attribute, to_attribute
from gateway.adapters.aws.channels import DynamoChannels
from gateway.adapters.aws.console import DynamoConsole
from gateway.adapters.aws.jobs import DynamoJobs
from gateway.adapters.aws.registry import DynamoRegistry
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.stores import open_aws, open_stores
from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import changes
from gateway.channels.stream_key import Algorithm, SigningSecrets, Verdict, sign
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.settings import Settings, load
from tests.integration.adapters.conftest import SESSIONS, TABLE, make_table
from tests.integration.adapters.test_console_store import make_table as make_console_table
from tests.integration.adapters.test_job_store import job
from tests.integration.adapters.test_registry import ITEM, holding


@pytest.fixture
def settings(tmp_path):
    return load(environ={"MILLRACE_DATA": str(tmp_path), "MILLRACE_CHANNELS": f"dynamodb://{TABLE}"})


def table():
    return boto3.client("dynamodb", region_name="eu-central-1")


async def test_an_item_of_the_original_system_is_readable_and_its_key_is_valid(aws, settings):
    id, key = (
        "0f0e0d0c-0000-4000-8000-00000000aaaa",
        sign("0f0e0d0c-0000-4000-8000-00000000aaaa", 2079907200, "shared", Algorithm.MD5),
    )
    item = {
        "id": {"S": id},
        "key": {"S": key},
        "isFlv": {"S": "true"},
        "isHls": {"S": "false"},
        "outdate": {"S": "2035/11/29"},
        "videoname": {"S": "old"},
        "hls_time": {"N": "2"},
    }
    table().put_item(TableName=TABLE, Item=item)
    async with open_stores(settings) as stores:
        channel = await stores.channels.get(id)
        assert (channel.flag("isFlv"), channel.flag("isHls"), channel.hls_time, channel.expires) == (
            True,
            False,
            2,
            2079907200,
        )
        assert SigningSecrets("shared").verify_push(id, channel.key, key, time.time()) is Verdict.VALID
        await stores.channels.update(id, {"videoname": "new"})
    assert table().get_item(TableName=TABLE, Key={"id": {"S": id}})["Item"] == item | {"videoname": {"S": "new"}}


async def test_attributes_have_the_original_names_and_kinds(aws, settings):
    async with open_stores(settings) as stores:
        await stores.channels.add(
            {
                "id": "a",
                "TimeStamp": 5,
                "isFlv": True,
                "isHls": "true",
                "hls_time": "2",
                "image_time": 2.5,
                "none": None,
            }
        )
    assert table().get_item(TableName=TABLE, Key={"id": {"S": "a"}})["Item"] == {
        "id": {"S": "a"},
        "TimeStamp": {"N": "5"},
        "isFlv": {"BOOL": True},
        "isHls": {"S": "true"},
        "hls_time": {"S": "2"},
        "image_time": {"N": "2.5"},
        "none": {"NULL": True},
    }


async def test_as_many_fields_as_a_channel_may_have_can_be_updated_at_once(ministack, settings):
    """One expression has two hundred names and values. moto's expression parser supports fewer."""
    async with open_stores(settings) as stores:
        channel = await stores.channels.add({"id": "a"})
        many = changes(channel, {f"field{i}": i for i in range(200)}, SigningSecrets("x"), 0)
        assert (await stores.channels.update("a", many)).item == {"id": "a"} | many


async def test_domains_are_the_original_parameters(aws, settings):
    ssm = boto3.client("ssm", region_name="eu-central-1")
    ssm.put_parameter(Name="pushDNS", Value="push.example.cn", Type="String")
    async with open_stores(settings) as stores:
        assert await stores.domains.get_domains() == PublicDomains("push.example.cn", "")
        await stores.domains.set_domains(PublicDomains("", "cdn.example.cn"))
    answer = ssm.get_parameters(Names=["pushDNS", "pullDNS"])
    assert [(p["Name"], p["Value"]) for p in answer["Parameters"]] == [("pullDNS", "cdn.example.cn")]


@pytest.fixture
def silent_port():
    """A service that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


async def test_a_refused_connection_raises_store_unavailable(aws, settings, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        async with open_stores(settings) as stores:
            for call in (
                stores.channels.get("a"),
                stores.channels.list(),
                stores.channels.add({"id": "a"}),
                stores.channels.delete("a", 0),
                stores.channels.check(),
            ):
                with pytest.raises(StoreUnavailable, match=r"dynamodb \(table video-metadata\)"):
                    await call


async def test_a_silent_service_raises_store_unavailable_in_time(aws, settings, monkeypatch, silent_port):
    monkeypatch.setattr(session, "CALL_TIMEOUT", 0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent_port}")
    async with open_stores(settings) as stores:
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await stores.channels.get("a")


def test_the_timeout_of_a_call_fits_into_the_contracts_eight_seconds():
    assert session.CALL_TIMEOUT <= 7


async def test_the_store_recovers_without_a_restart(aws, settings, monkeypatch):
    """The same client works again after the outage."""
    gate = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = gate.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    async with open_stores(settings) as stores:
        with pytest.raises(StoreUnavailable):
            await stores.channels.list()
        gate.close()
        await gate.wait_closed()

        async def pipe(reader, writer):
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()

        async def forward(reader, writer):
            host, _, moto_port = aws.removeprefix("http://").partition(":")
            upstream = await asyncio.open_connection(host, int(moto_port))
            await asyncio.gather(pipe(reader, upstream[1]), pipe(upstream[0], writer))

        gate = await asyncio.start_server(forward, "127.0.0.1", port)
        assert await stores.channels.list() == []
    gate.close()


@pytest.fixture
def lose_answer(monkeypatch):
    """Returns a function that loses the next answer, after the service has made the change."""
    send, lost = AIOHTTPSession.send, []

    async def send_and_lose(http, request):
        answer = await send(http, request)
        if lost:
            lost.pop()
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    monkeypatch.setattr(AIOHTTPSession, "send", send_and_lose)
    return lambda: lost.append(True)


async def test_a_write_whose_answer_is_lost_does_not_fail_because_of_itself(aws, lose_answer):
    """botocore repeats it, and DynamoDB then sees the first one. Nobody knows which of two processes has written."""
    make_table("jobs", "id")
    make_console_table("console")
    async with open_aws("this test") as opened:
        jobs, console = DynamoJobs(opened, "jobs"), DynamoConsole(opened, "console")
        await jobs.add(job())
        await console.put("user", "ann", {})
        for write in (
            DynamoChannels(opened, TABLE).add({"id": "a"}),
            jobs.change(job(progress=5, version=2)),
            console.add("alarm", "a", {}),
            console.delete("user", "ann"),
        ):
            lose_answer()
            with pytest.raises(StoreUnavailable):
                await write
        assert (await jobs.get(job().id)).version == 2
        assert (await console.get("alarm", "a"), await console.get("user", "ann")) == ({}, None)


async def test_a_lost_answer_to_a_claim_or_an_update_does_no_harm(aws, lose_answer):
    async with open_aws("this test") as opened:
        registry, channels = DynamoRegistry(opened, SESSIONS), DynamoChannels(opened, TABLE)
        lose_answer()
        await registry.claim(holding(), ITEM)
        assert await registry.claim_of("foyer") == holding()
        await channels.add({"id": "a"})
        lose_answer()
        await channels.update("a", {"videoname": "new"})
        assert (await channels.get("a")).item["videoname"] == "new"


@pytest.mark.parametrize("reason", ["ThrottlingError", "ProvisionedThroughputExceeded", "ValidationError"])
async def test_a_transaction_that_the_table_cannot_make_now_is_an_outage(
    aws: str, settings: Settings, reason: str
) -> None:
    """Its conditions were met, so to repeat it at once would only add to the load."""
    answers: list[str] = []

    def refuse(**_: Any) -> AioAWSResponse:
        kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        body = {"__type": kind, "Message": "cancelled", "CancellationReasons": [{"Code": "None"}, {"Code": reason}]}
        answers.append(reason)
        headers = {"content-type": "application/x-amz-json-1.0"}
        raw = SimpleNamespace(read=lambda: asyncio.sleep(0, json.dumps(body).encode()))
        return AioAWSResponse(aws, 400, headers, raw)

    async with open_stores(settings) as stores:
        assert stores.aws is not None
        client = await stores.aws.client("dynamodb")
        client.meta.events.register("before-send.dynamodb.TransactWriteItems", refuse)
        with pytest.raises(StoreUnavailable, match=reason):
            await stores.channels.add({"id": "a", "slug": "foyer"})
    assert answers == [reason]


async def test_a_missing_table_raises_store_unavailable_with_the_reason(aws, tmp_path):
    settings = load(environ={"MILLRACE_DATA": str(tmp_path), "MILLRACE_CHANNELS": "dynamodb://no-such-table"})
    async with open_stores(settings) as stores:
        with pytest.raises(StoreUnavailable, match=r"no-such-table.*ResourceNotFoundException"):
            await stores.channels.check()


async def test_unreadable_domains_are_returned_as_empty(aws, settings, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1")
    async with open_stores(settings) as stores:
        assert await stores.domains.get_domains() == PublicDomains()
        with pytest.raises(StoreUnavailable, match="ssm"):
            await stores.domains.set_domains(PublicDomains("a", "b"))


def test_a_missing_region_raises_store_unusable(monkeypatch, aws):
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(StoreUnusable, match="set AWS_REGION"):
        AwsSession()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    AwsSession()


def test_an_unknown_profile_raises_store_unusable(monkeypatch, aws):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreUnusable, match="nobody"):
        AwsSession()


async def test_missing_credentials_raise_store_unavailable(monkeypatch, aws, settings):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_stores(settings) as stores:
        with pytest.raises(StoreUnavailable, match="NoCredentialsError"):
            await stores.channels.check()


async def test_credentials_that_come_later_are_found(
    aws: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata service of a machine that starts may be late."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    async with open_stores(settings) as stores:
        with pytest.raises(StoreUnavailable, match="NoCredentialsError"):
            await stores.channels.check()
        file.write_text("[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = test\n")
        await stores.channels.check()


numbers = st.integers(-(10**38) + 1, 10**38 - 1) | st.floats(
    allow_nan=False, allow_infinity=False, min_value=-1e125, max_value=1e125
).filter(lambda f: not f.is_integer())
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner),
    max_leaves=20,
)


@given(values)
def test_every_json_value_comes_back_from_an_attribute(value):
    assert from_attribute(to_attribute(value)) == value


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ({"N": "2.50"}, 2.5),
        ({"N": "2.0"}, 2),
        ({"N": "1E+2"}, 100),
        ({"N": "1E+120"}, 1e120),
        ({"SS": ["b", "a"]}, ["a", "b"]),
        ({"NS": ["2", "1.5"]}, [1.5, 2]),
        ({"B": b"\0\xff"}, "AP8="),
        ({"BS": [b"a"]}, ["YQ=="]),
    ],
)
def test_attributes_of_other_programs_become_json_values(attribute, value):
    assert from_attribute(attribute) == value
