"""Signed CloudFront addresses from the API, judged by the gateway's verifier."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.api.cloudfront import SIGNER
from gateway.api.context import AddressDefaults
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.cloudfront_keys import load_private_key
from gateway.playback.cloudfront_signer import CloudFrontSigner
from tests.support.admin import PORTS, admin
from tests.support.cloudfront import Signer
from tests.support.http import request

KEY = Signer()
PULL = "https://live.example.com"
SETUP: Any = {
    "services": {SIGNER: CloudFrontSigner("K1", load_private_key(KEY.private_pem))},
    "address_defaults": AddressDefaults(lambda: PORTS, public_url=PULL),
}


def judge(url: str, now: float = 0.0, **headers: str) -> str | None:
    target = url.removeprefix(PULL).removeprefix("wss://live.example.com")
    return CloudFrontVerifier({"K1": KEY.public}, PULL, "").judge(request(target, **headers), now or time.time())


async def test_the_addresses_of_a_channel_are_signed_with_everything_below_it(tmp_path: Path) -> None:
    async with admin(tmp_path, **SETUP) as api:
        channel = await api.create(isFlv=True, isHls=True, isCMAF=False)
        path = f"/videostream/{channel['id']}/cloudfront"
        said = await api.json("POST", path, {})
        assert said["url"] == said["urls"]["hls"] and set(said["urls"]) == {"flv", "wsflv", "hls", "page"}
        assert all(judge(url) is None for url in said["urls"].values())
        segment = said["url"].replace("live.m3u8", "1700000000001.ts")
        assert judge(segment) is None and judge(segment.replace(channel["id"], "other")) is not None
        cookie = "; ".join(f"{name}={value}" for name, value in said["cookies"].items())
        assert judge(f"{PULL}/{channel['id']}/live.flv", cookie=cookie) is None
        assert judge(said["url"], now=time.time() + 3601) == "the signature has expired"
        short = await api.json("POST", path, {"expires": "2030-01-31", "ip": "192.0.2.0/24", "url": "flv"})
        assert (short["expires"], short["url"]) == ("2030-01-31T00:00:00.000Z", short["urls"]["flv"])


async def test_a_canned_policy_signs_one_address(tmp_path: Path) -> None:
    async with admin(tmp_path, **SETUP) as api:
        channel = await api.create(isFlv=True)
        path = f"/videostream/{channel['id']}/cloudfront"
        for name in ("flv", "wsflv"):
            said = await api.json("POST", path, {"policy": "canned", "url": name})
            assert said["urls"] == {name: said["url"]} and "Expires=" in said["url"]
            assert judge(said["url"]) is None


async def test_a_video_on_demand_is_signed_with_its_folder(tmp_path: Path) -> None:
    async with admin(tmp_path, **SETUP) as api:
        said = await api.json("POST", "/cloudfront", {"url": "/vod/holiday/holiday.m3u8"})
        assert said["url"].startswith(f"{PULL}/vod/holiday/holiday.m3u8?Policy=")
        assert judge(said["url"].replace("holiday.m3u8", "holidaystream_00001.ts")) is None
        assert judge(said["url"].replace("/vod/holiday/", "/vod/other/")) is not None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "rtmp"}, "url"),
        ({"url": 5}, "url"),
        ({"expires": "soon"}, "expires"),
        ({"from": "then"}, "from"),
        ({"ip": 5}, "ip"),
        ({"ip": "here"}, "ip"),
        ({"policy": "open"}, "policy"),
        ({"policy": []}, "policy"),
    ],
)
async def test_a_bad_request_names_its_field(tmp_path: Path, body: Any, field: str) -> None:
    async with admin(tmp_path, **SETUP) as api:
        channel = await api.create()
        refused = await api.json("POST", f"/videostream/{channel['id']}/cloudfront", body, status=400)
        assert refused["field"] == field


@pytest.mark.parametrize("url", ["https://other.example/x", f"{PULL}.evil/x", '/a"b', "vod/x", None, 5, f"{PULL}"])
async def test_only_addresses_of_this_gateway_are_signed(tmp_path: Path, url: Any) -> None:
    async with admin(tmp_path, **SETUP) as api:
        assert (await api.json("POST", "/cloudfront", {"url": url}, status=400))["field"] == "url"


async def test_without_a_key_nothing_is_signed_and_the_status_shows_it(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        channel = await api.create()
        path = f"/videostream/{channel['id']}/cloudfront"
        assert "cloudfront.private_key" in (await api.json("POST", path, {}, status=404))["error"]
        assert (await api.json("GET", "/status"))["cloudfront"] is False
    async with admin(tmp_path, **SETUP) as api:
        assert (await api.json("GET", "/status"))["cloudfront"] is True
        assert (await api.call("POST", "/videostream/none/cloudfront", {})).status == 404
        assert (await api.call("POST", "/cloudfront", {"url": "/x"}, token=None)).status == 401
