"""IVS channels in the admin API: created, listed and deleted on moto; and the answers without AWS."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from gateway.adapters import cloud
from gateway.adapters.cloud import AwsServices
from gateway.api import console_schemas
from gateway.api.ivs import IVS
from gateway.lib.extras import INSTALL_AWS
from gateway.ports.errors import IvsRefused, StoreUnavailable
from tests.support.admin import Admin, admin
from tests.support.ivs import KEY, IvsApi, ivs_api

ARN = "arn:aws:ivs:eu-central-1:123456789012:channel/AbCdEf123456"


@pytest.fixture
def service(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[IvsApi]:
    with ivs_api(aws) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IVS", api.url)
        yield api


@pytest_asyncio.fixture
async def api(service: IvsApi, tmp_path: Path) -> AsyncIterator[Admin]:
    async with AwsServices(None, "") as ivs, admin(tmp_path, services={IVS: ivs}) as running:
        yield running


async def test_a_channel_is_made_listed_and_deleted(api: Admin) -> None:
    assert await api.json("GET", "/ivs/channels") == []
    made = await api.json("POST", "/ivs/channels", {"name": "stage", "type": "BASIC", "latencyMode": "NORMAL"})
    console_schemas.NewIvsChannel.model_validate(made)
    assert (made["name"], made["type"], made["latencyMode"], made["streamKey"]) == ("stage", "BASIC", "NORMAL", KEY)
    assert made["rtmpUrl"] == f"rtmps://{made['ingestEndpoint']}:443/app/"
    (listed,) = await api.json("GET", "/ivs/channels")
    console_schemas.IvsChannel.model_validate(listed)
    assert listed == {name: value for name, value in made.items() if name != "streamKey"}
    assert KEY not in str(listed)
    gone = await api.json("DELETE", f"/ivs/channels/{quote(made['arn'], safe='')}")
    assert gone == {"arn": made["arn"], "deleted": True}
    assert await api.json("GET", "/ivs/channels") == []


async def test_a_path_may_contain_an_unescaped_arn(api: Admin) -> None:
    made = await api.json("POST", "/ivs/channels", {"name": "stage"})
    assert (made["type"], made["latencyMode"]) == ("STANDARD", "LOW")
    await api.json("DELETE", f"/ivs/channels/{made['arn']}")


async def test_many_channels_are_listed_by_name(api: Admin, service: IvsApi) -> None:
    for n in reversed(range(52)):
        await api.json("POST", "/ivs/channels", {"name": f"stage-{n:02}"})
    service.asked.clear()
    found = await api.json("GET", "/ivs/channels")
    assert [c["name"] for c in found] == [f"stage-{n:02}" for n in range(52)]
    assert all(c["playbackUrl"] and c["ingestEndpoint"] for c in found)
    assert service.asked.count("BatchGetChannel") == 2  # fifty at once


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "name"), ({"name": "with space"}, "name"), ({"name": "x" * 129}, "name"), ({"name": "<script>"}, "name"),
     ({"name": 5}, "name"), ({"name": "a", "type": "HUGE"}, "type"), ({"name": "a", "type": ["BASIC"]}, "type"),
     ({"name": "a", "latencyMode": "ULTRA"}, "latencyMode")],
)  # fmt: skip
async def test_a_value_that_ivs_would_refuse_is_reported_with_its_field(
    api: Admin, body: dict[str, Any], field: str
) -> None:
    response = await api.call("POST", "/ivs/channels", body)
    assert (response.status, (await response.json())["field"]) == (400, field)


async def test_an_unknown_channel_gives_404_and_an_invalid_arn_gives_400(api: Admin) -> None:
    assert (await api.call("DELETE", f"/ivs/channels/{ARN}")).status == 404
    for arn in ("x", "arn:aws:s3:::bucket", ARN.replace("channel", "stream-key")):
        assert (await api.call("DELETE", f"/ivs/channels/{arn}")).status == 400


class Saying:
    """An IVS double that always raises the same error."""

    available = True

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def channels(self) -> Any:
        raise self._error

    async def delete(self, arn: str) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("reason", "status"), [("missing", 404), ("conflict", 409), ("full", 409), ("invalid", 400), ("denied", 502)]
)
async def test_a_refusal_of_ivs_is_returned_with_its_message(tmp_path: Path, reason: str, status: int) -> None:
    async with admin(tmp_path, services={IVS: Saying(IvsRefused("the words of IVS", reason))}) as api:
        response = await api.call("DELETE", f"/ivs/channels/{ARN}")
        assert (response.status, await response.json()) == (status, {"error": "the words of IVS"})


async def test_an_outage_of_ivs_gives_503_without_details(tmp_path: Path) -> None:
    async with admin(tmp_path, services={IVS: Saying(StoreUnavailable("ivs (channels) does not answer"))}) as api:
        response = await api.call("GET", "/ivs/channels")
        assert response.status == 503 and int(response.headers["Retry-After"]) > 0
        assert (await response.json())["error"] == "Amazon IVS is not available now"


async def test_without_aws_the_answer_names_the_missing_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    async with AwsServices(None, "") as ivs, admin(tmp_path, services={IVS: ivs}) as api:
        assert (await api.json("GET", "/status"))["ivs"] is False
        response = await api.call("GET", "/ivs/channels")
        assert response.status == 503
        assert "AWS_REGION" in (await response.json())["error"]
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        assert (await api.json("GET", "/status"))["ivs"] is True


async def test_without_the_extras_the_answer_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gateway.adapters.aws.session", None)
    monkeypatch.setattr(cloud.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    async with AwsServices(None, "") as ivs, admin(tmp_path, services={IVS: ivs}) as api:
        assert (await api.json("GET", "/status"))["ivs"] is False
        response = await api.call("GET", "/ivs/channels")
        assert (response.status, INSTALL_AWS in await response.text()) == (503, True)


async def test_a_node_without_ivs_answers_503(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        assert (await api.call("GET", "/ivs/channels")).status == 503
        assert (await api.json("GET", "/status"))["ivs"] is False
