"""The admin API from outside: channels, sessions, domains, QR codes, health."""

import asyncio
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest

from gateway.api.channel_forms import LADDERS, RUNS_TASKS
from gateway.api.context import AddressDefaults, RequestLimits
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.live.health_report import Measurements
from gateway.live.sink import EndReason
from gateway.ports.errors import StoreUnavailable
from gateway.reports.node_status import NodeStatus
from gateway.settings.ladders import load_ladders
from tests.support.admin import FAR, PORTS, SECRET, TOKEN, Admin, admin
from tests.support.builders import picture

# The body of the curl example in the guide, unchanged.
GUIDE = b"""{
    "isFlv":true,
    "isHls":false,
    "isVideo":true,
    "isImage":false,
    "isMotion":false,
    "isOnDemand":false,
    "isCMAF":false,
    "video_time":"60",
    "image_time":"30",
    "hls_time":"2",
    "hls_list_size":"5",
    "outdate":"2022-12-09"
}"""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Admin]:
    async with admin(tmp_path) as running:
        yield running


# ---- channels ----


async def test_the_request_body_of_the_guide_makes_an_expired_channel(api: Admin):
    response = await api.call("POST", "/videostream", raw=GUIDE)
    item = await response.json()
    assert response.status == 200
    sent = json.loads(GUIDE)
    assert {name: item[name] for name in sent} == sent
    assert item["expired"] is True
    assert item["key"].startswith("1670544000-")
    assert abs(item["TimeStamp"] - time.time() - 3 * 86_400) < 60
    assert await api.json("GET", f"/videostream/{item['id']}") == item


async def test_a_new_channel_shows_its_push_and_play_addresses(api: Admin):
    item = await api.create(isHls=True, isCMAF="true")
    assert SigningSecrets(SECRET).verify(item["id"], item["key"], time.time()) is Verdict.VALID
    assert item["obsServer"] == "rtmp://127.0.0.1:1935/stream"
    assert item["obsKey"] == f"{item['id']}?sign={item['key']}"
    assert item["pushUrl"] == f"{item['obsServer']}/{item['obsKey']}"
    assert item["pushUrls"].keys() == {"rtmp", "srt", "ws", "whip"}
    assert item["playUrls"]["flv"] == f"http://127.0.0.1:8080/{item['id']}/live.flv"
    assert item["playUrls"].keys() == {"flv", "wsflv", "rtmp", "srt", "whep", "hls", "cmaf", "dash"}
    assert item["expired"] is False


@pytest.mark.parametrize("tasks", [False, True])
async def test_the_field_list_marks_fields_without_an_effect(tmp_path: Path, tasks: bool):
    async with admin(tmp_path, services={RUNS_TASKS: tasks}) as api:
        unused = {field["name"] for field in await api.json("GET", "/fields") if not field["used"]}
    never = {"masterSize", "recordSize", "ondemand_list_size"}
    assert unused == (never if tasks else never | {"codecSize", "slaveSize", "isCluster", "clusterNumber"})


async def test_the_ladders_are_listed_with_their_heights_and_rates(tmp_path: Path):
    file = tmp_path / "ladders.toml"
    rung = '{ name = "240p", flag = "", width = 426, height = 240, bitrate = 250000, audio = "copy" }'
    file.write_text(f"[mine]\nvbv = 2\nrungs = [{rung}]\n")
    async with admin(tmp_path, services={LADDERS: load_ladders(file)}) as api:
        ladders = {one["name"]: one for one in await api.json("GET", "/ladders")}
    assert ladders.keys() == {"standard", "recommended", "mine"}
    assert ladders["mine"] == {
        "name": "mine",
        "vbv": 2,
        "rungs": [{"name": "240p", "flag": "", "width": 426, "height": 240, "bitrate": 250000, "audio": "copy"}],
    }
    assert [(one["flag"], one["bitrate"]) for one in ladders["standard"]["rungs"]] == [
        ("ld", 400000), ("sd", 600000), ("hd", 1000000), ("ud", 2000000),
    ]  # fmt: skip


async def test_the_channel_list_is_a_plain_array(api: Admin):
    assert await api.json("GET", "/videostream") == []
    items = [await api.create(videoname=name) for name in ("a", "b")]
    assert await api.json("GET", "/videostream") == items


async def test_a_change_sets_some_fields_and_leaves_the_others(api: Admin):
    item = await api.create(videoname="old", description="stays", lens="wide")
    changed = await api.json("PUT", f"/videostream/{item['id']}", {"videoname": "new", "isHls": "true"})
    assert (changed["videoname"], changed["description"], changed["lens"]) == ("new", "stays", "wide")
    assert changed["isHls"] == "true"
    assert changed["key"] == item["key"]
    assert api.forgotten.count(item["id"]) == 2


async def test_a_new_outdate_makes_a_new_key(api: Admin):
    item = await api.create()
    changed = await api.json("PUT", f"/videostream/{item['id']}", {"outdate": "2091-01-01"})
    assert changed["key"] != item["key"]
    assert SigningSecrets(SECRET).verify(item["id"], changed["key"], time.time()) is Verdict.VALID


async def test_a_whole_item_can_be_sent_back(api: Admin):
    item = await api.create(isRelay=True, relayURL="rtmp://relay.example.com/app/very-secret-key")
    assert "very-secret-key" not in json.dumps(item)
    assert await api.json("PUT", f"/videostream/{item['id']}", item) == item
    assert (await api.store.get(item["id"])).relay_targets == ("rtmp://relay.example.com/app/very-secret-key",)


async def test_a_deleted_channel_is_gone_and_its_push_is_ended(api: Admin):
    item = await api.create()
    evicted: list[EndReason] = []
    await api.push(item["id"], evicted)
    assert await api.json("DELETE", f"/videostream/{item['id']}") == "stream deleted"
    assert evicted == [EndReason.DELETED]
    assert await api.json("GET", f"/videostream/{item['id']}", status=404) == {"error": f"no channel {item['id']}"}
    await api.json("DELETE", f"/videostream/{item['id']}", status=404)


@pytest.mark.parametrize("id", ["unknown", "%2e%2e%2fetc", "a%00b", "x" * 4000, "%ff", "%F0%9F%90%88"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_id_is_not_found(api: Admin, method: str, id: str):
    response = await api.call(method, f"/videostream/{id}", {} if method == "PUT" else None)
    assert response.status == 404
    assert "error" in await response.json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"outdate": "soon"}, "outdate"),
        ({}, "outdate"),
        ({"outdate": "2022-02-30"}, "outdate"),
        ({"outdate": True}, "outdate"),
        ({"outdate": FAR, "isFlv": 1}, "isFlv"),
        ({"outdate": FAR, "isFlv": "yes"}, "isFlv"),
        ({"outdate": FAR, "hls_time": "fast"}, "hls_time"),
        ({"outdate": FAR, "playAuth": "basic"}, "playAuth"),
        ({"outdate": FAR, "relayURL": "http://x"}, "relayURL"),
        ({"outdate": FAR, "n": 10**40}, "n"),
        ({"outdate": FAR, "n": 1e300}, "n"),
    ],
)
async def test_an_invalid_field_is_named_in_the_error(api: Admin, body: dict[str, object], field: str):
    answer = await api.json("POST", "/videostream", body, status=400)
    assert answer["field"] == field
    assert answer["error"]
    assert await api.json("GET", "/videostream") == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"{",
        b"[]",
        b'[{"outdate":"2030-01-01"}]',
        b'"text"',
        b"null",
        b"12",
        b"true",
        b'{"a":1}{"b":2}',
        b'{"outdate":"2030-01-01","a":NaN}',
        b'{"outdate":"2030-01-01","a":-Infinity}',
        b'{"outdate":"2030-01-01","outdate":"2031-01-01"}',
        b'{"outdate":"2030-01-01","x":{"a":1,"a":2}}',
        b'{"outdate":"2030-01-01","a":1e999}',
        b'{"outdate":"2030-01-01","a":' + b"9" * 5000 + b"}",
        b'{"outdate":"2030-01-01","a":"\\ud800"}',
        b'{"outdate":"2030-01-01","\\ud800":1}',
        b'{"outdate":"2030-01-01","a":"x\\u0000"}',
        b'{"outdate":"2030-01-01","a":[{"\\u0000":1}]}',
        b"\xff\xfe{}",
        '{"outdate":"2030-01-01"}'.encode("utf-16"),
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_not_a_plain_json_object_gives_400(api: Admin, raw: bytes):
    response = await api.call("POST", "/videostream", raw=raw)
    assert response.status == 400, await response.text()
    assert "error" in await response.json()


async def test_bodies_and_items_have_a_maximum_size(api: Admin):
    huge = await api.call("POST", "/videostream", {"outdate": FAR, "x": "y" * 300_000})
    large = await api.call("POST", "/videostream", {"outdate": FAR, "x": "y" * 70_000})
    assert (huge.status, large.status) == (413, 413)
    assert "256000" in (await huge.json())["error"]
    assert "64000" in (await large.json())["error"]


async def test_a_compressed_bomb_is_too_large(api: Admin):
    import zlib

    bomb = zlib.compress(b" " * 50_000_000)
    response = await api.client.post(
        "/videostream", data=bomb, headers={"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "deflate"}
    )
    assert response.status in (400, 413)


async def test_a_body_that_does_not_arrive_in_time_gives_408(tmp_path: Path):
    limits = RequestLimits(body=1000, item=1000, request=0.05)
    async with admin(tmp_path, limits=limits) as api:
        port = api.client.port
        assert port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /videostream HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{"
        )
        assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_json_body_with_the_content_type_of_curl_is_accepted(api: Admin):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    response = await api.client.post("/videostream", data=b'{"outdate":"2090-01-01"}', headers=headers)
    assert response.status == 200


# ---- the way in ----


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/videostream"),
        ("POST", "/videostream"),
        ("DELETE", "/videostream/x"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/api/server"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/videostream"),
    ],
)
async def test_requests_without_a_token_get_401_and_no_information(api: Admin, method: str, path: str):
    response = await api.call(method, path, token=None)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="millrace"'
    assert (await response.json()).keys() == {"error"}


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "Basic YTpi", f"Bearer {TOKEN}x", "Bearer \xff"])
async def test_a_wrong_token_is_refused(api: Admin, header: str):
    response = await api.client.get("/videostream", headers={"Authorization": header})
    assert response.status == 401


async def test_an_address_with_wrong_tokens_must_wait_but_the_right_token_works(tmp_path: Path):
    async with admin(tmp_path, refusals_per_minute=3) as api:
        answers = [await api.call("GET", "/videostream", token="guess") for _ in range(5)]
        assert [answer.status for answer in answers] == [401, 401, 401, 429, 429]
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
        assert (await api.call("GET", "/videostream")).status == 200
        assert (await api.call("GET", "/healthcheck", token=None)).status == 200
        assert (await api.call("GET", "/videostream", token=None)).status == 401


@pytest.mark.parametrize(
    "page", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}], ids=str
)
async def test_wrong_tokens_of_another_sites_page_are_refused_and_not_counted(tmp_path: Path, page: dict[str, str]):
    async with admin(tmp_path, refusals_per_minute=2) as api:
        for _ in range(9):
            guess = await api.client.get("/videostream", headers={"Authorization": "Bearer guess", **page})
            assert guess.status == 403
        assert (await api.call("GET", "/videostream", token="typo")).status == 401, "nothing was counted so far"
        right = await api.client.get("/videostream", headers={"Authorization": f"Bearer {TOKEN}", **page})
        assert right.status == 200, "any page that has the token may ask"


@pytest.mark.parametrize("path", ["/nowhere", "/videostream/a/b"])
async def test_an_unknown_route_gives_404_in_json(api: Admin, path: str):
    answer = await api.json("GET", path, status=404)
    assert answer["error"].startswith("no such route: GET")


async def test_an_unknown_method_gives_405_in_json(api: Admin):
    response = await api.call("PATCH", "/videostream")
    assert response.status == 405
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
    assert (await api.call("DELETE", "/api/streams/stream/x")).status == 405


async def test_any_page_may_ask_with_the_token(api: Admin):
    response = await api.call("GET", "/videostream")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    # The name of an export, the address of a job.
    assert {"Content-Disposition", "Location", "Retry-After"} <= set(exposed)
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    preflight = await api.client.options("/videostream/x", headers=headers)
    assert preflight.status == 204
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in preflight.headers


async def test_every_answer_carries_the_security_headers(api: Admin):
    for path in ("/videostream", "/nowhere", "/login", "/status", "/console/nothing.js", "/healthcheck", "/metrics"):
        headers = (await api.call("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


# ---- sessions ----


async def test_a_channel_that_is_not_live_is_idle(api: Admin):
    item = await api.create()
    session = await api.json("GET", f"/videostream/{item['id']}/session")
    assert session == {
        "id": item["id"],
        "state": "idle",
        "paused": False,
        "since": None,
        "bitrate": 0,
        "publisher": None,
        "input": None,
        "inputKind": None,
        "fallback": False,
        "viewers": {
            "flv": 0,
            "wsflv": 0,
            "rtmp": 0,
            "srt": 0,
            "rtsp": 0,
            "whep": 0,
            "hls": 0,
            "cmaf": 0,
            "dash": 0,
            "moq": 0,
        },
        "tracks": [],
        "outputs": [],
        "health": [],
        "measured": asdict(Measurements()),
        "refusals": [],
        "webrtcViewers": [],
        "behind": None,
    }
    await api.json("GET", "/videostream/unknown/session", status=404)


async def test_a_live_session_shows_publisher_tracks_outputs_and_viewers(api: Admin):
    item = await api.create(videoname="stage")
    publisher = await api.push(item["id"])
    publisher.push(picture(0, key=True), time.monotonic())
    publisher.stream.viewers["flv"] += 3
    await asyncio.sleep(0)
    session = await api.json("GET", f"/videostream/{item['id']}/session")
    assert (session["id"], session["state"], session["viewers"]["flv"]) == (item["id"], "live", 3)
    assert session["since"].startswith("20") and session["since"].endswith("Z")
    assert session["publisher"]["protocol"] == "rtmp"
    assert session["publisher"]["address"] == "192.0.2.7:5000"
    assert [(t["kind"], t["codec"]) for t in session["tracks"]] == [("video", "h264"), ("audio", "aac")]
    assert session["tracks"][1]["sampleRate"] == 44100
    assert {o["name"]: (o["enabled"], o["state"]) for o in session["outputs"]} == {
        "flv": (True, "running"),
        "hls": (False, "off"),
    }
    online = await api.json("GET", "/videostreams/online")
    assert [(s["id"], s["videoname"]) for s in online] == [(item["id"], "stage")]
    publisher.close()
    assert (await api.json("GET", f"/videostream/{item['id']}/session"))["state"] == "lingering"


async def test_a_kick_ends_the_push_once(api: Admin):
    item = await api.create()
    evicted: list[EndReason] = []
    await api.push(item["id"], evicted)
    assert (await api.json("DELETE", f"/videostream/{item['id']}/session"))["state"] == "idle"
    assert evicted == [EndReason.KICKED]
    await api.json("DELETE", f"/videostream/{item['id']}/session", status=404)
    assert await api.json("GET", "/videostreams/online") == []


async def test_outputs_are_switched_while_live(api: Admin):
    item = await api.create()
    path = f"/videostream/{item['id']}/outputs"
    answer = await api.json("POST", f"{path}/hls", {"enabled": True}, status=409)
    assert "not live" in answer["error"]
    publisher = await api.push(item["id"])
    await asyncio.sleep(0)
    assert await api.json("POST", f"{path}/hls", {"enabled": True}) == {
        "name": "hls",
        "enabled": True,
        "state": "running",
        "error": None,
    }
    assert (await api.json("POST", f"{path}/flv", {"enabled": "false"}))["state"] == "off"
    assert publisher.stream.outputs is not None and not publisher.stream.outputs.enabled("flv")
    assert "flv, hls" in (await api.json("POST", f"{path}/vhs", {"enabled": True}, status=404))["error"]
    for wrong in ({"enabled": 1}, {"enabled": None}, {}, {"enabled": [True]}, {"enabled": "yes"}):
        assert (await api.json("POST", f"{path}/hls", wrong, status=400))["field"] == "enabled"
    await api.json("POST", "/videostream/unknown/outputs/hls", {"enabled": True}, status=404)


async def test_a_changed_flag_is_followed_while_live(api: Admin):
    item = await api.create()
    publisher = await api.push(item["id"])
    await asyncio.sleep(0)
    assert publisher.stream.outputs is not None
    await api.json("PUT", f"/videostream/{item['id']}", {"isHls": True})
    assert publisher.stream.outputs.enabled("hls")
    await api.json("PUT", f"/videostream/{item['id']}", {"isHls": False})
    assert not publisher.stream.outputs.enabled("hls")


# ---- domains, QR codes, servers ----


async def test_addresses_are_built_from_the_domains(api: Admin):
    assert await api.json("GET", "/domains") == {"pushDNS": "", "pullDNS": ""}
    domains = {"pushDNS": "push.example.com", "pullDNS": "https://live.example.com"}
    assert await api.json("PUT", "/domains", domains) == domains
    item = await api.create()
    assert item["obsServer"] == "rtmp://push.example.com:1935/stream"
    assert item["pushUrls"].keys() == {"rtmp", "srt", "ws", "whip"}
    assert item["playUrls"]["flv"] == f"https://live.example.com/{item['id']}/live.flv"
    assert item["playUrls"]["wsflv"] == f"wss://live.example.com/{item['id']}/live.flv"
    assert (await api.json("PUT", "/domains", {"pullDNS": ""}))["pushDNS"] == "push.example.com"
    assert (await api.json("PUT", "/domains", {"pushDNS": "a b"}, status=400))["field"] == "pushDNS"
    assert (await api.json("PUT", "/domains", {"pullDNS": 7}, status=400))["field"] == "pullDNS"


async def test_addresses_use_the_requested_host_unless_it_is_loopback(tmp_path: Path):
    shown = AddressDefaults(lambda: PORTS, push_host="192.0.2.9", pull_host="192.0.2.10")
    async with admin(tmp_path, address_defaults=shown) as api:
        item = await api.create()
        assert item["obsServer"] == "rtmp://192.0.2.9:1935/stream"
        assert item["playUrls"]["flv"].startswith("http://192.0.2.10:8080/")
        for host, expected in (
            ("studio.lan:8000", "studio.lan"),
            ("[2001:db8::1]:8000", "[2001:db8::1]"),
            ('x"><script>', "192.0.2.9"),
        ):
            headers = {"Authorization": f"Bearer {TOKEN}", "Host": host}
            answer = await (await api.client.get(f"/videostream/{item['id']}", headers=headers)).json()
            assert answer["obsServer"] == f"rtmp://{expected}:1935/stream"


async def test_a_public_url_replaces_the_pull_domain(tmp_path: Path):
    async with admin(
        tmp_path, address_defaults=AddressDefaults(lambda: PORTS, public_url="https://cdn.example.com/live")
    ) as api:
        item = await api.create()
        assert item["pushUrls"].keys() == {"rtmp", "srt", "ws", "whip"}
    assert item["playUrls"]["flv"] == f"https://cdn.example.com/live/{item['id']}/live.flv"


async def test_protected_channels_are_shown_with_play_signs(api: Admin):
    item = await api.create(playAuth="sign")
    _url, _, sign = item["playUrls"]["flv"].partition("?sign=")
    assert SigningSecrets(SECRET).verify_play(item["id"], sign, time.time()) is Verdict.VALID
    assert sign != item["key"]


@pytest.mark.parametrize("which", ["", "?url=push", "?url=flv", "?url=hls", "?url=page"])
async def test_a_qr_code_is_an_svg_with_a_name(api: Admin, which: str):
    item = await api.create(isHls=True)
    response = await api.call("GET", f"/videostream/{item['id']}/qr{which}")
    assert (response.status, response.content_type) == (200, "image/svg+xml")
    root = ET.fromstring(await response.text())
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text is not None and title.text.startswith("QR code of the")
    assert root.get("role") == "img" and root.get("aria-label") == title.text
    assert root.get("viewBox")


async def test_a_qr_code_of_a_disabled_or_unknown_address_is_refused(api: Admin):
    item = await api.create(isHls=False)
    answer = await api.json("GET", f"/videostream/{item['id']}/qr?url=hls", status=404)
    assert answer["error"] == f"hls is not enabled for {item['id']}"
    dark = await api.create(isHls=False, isFlv=False, isCMAF=False)
    await api.json("GET", f"/videostream/{dark['id']}/qr?url=page", status=404)
    assert (await api.json("GET", f"/videostream/{item['id']}/qr?url=http://x", status=400))["field"] == "url"
    await api.json("GET", "/videostream/unknown/qr", status=404)


async def test_the_server_list_contains_this_node(api: Admin):
    servers = await api.json("GET", "/servers")
    assert servers == [{"role": "primary", "address": "127.0.0.1", "ports": PORTS.as_json()}]


# ---- node-media-server's routes ----


async def test_node_media_server_routes_answer_in_the_original_format(api: Admin):
    server = await api.json("GET", "/api/server")
    assert server.keys() == {"os", "cpu", "mem", "net", "nodejs", "clients", "version"}
    assert server["clients"].keys() == {"accepted", "active", "idle", "rtmp", "http", "ws"}
    assert await api.json("GET", "/api/streams") == {}
    idle = await api.json("GET", "/api/streams/stream/x")
    assert idle == {"isLive": False, "viewers": 0, "duration": 0, "bitrate": 0, "startTime": None, "arguments": {}}

    item = await api.create()
    publisher = await api.push(item["id"])
    publisher.stream.viewers["flv"] += 2
    entry = (await api.json("GET", "/api/streams"))["stream"][item["id"]]
    assert entry["publisher"]["app"] == "stream"
    assert entry["publisher"]["audio"]["codec"] == "AAC"
    assert entry["publisher"]["video"]["codec"] == "H264"
    live = await api.json("GET", f"/api/streams/stream/{item['id']}")
    assert (live["isLive"], live["viewers"]) == (True, 2)
    assert (await api.json("GET", f"/api/streams/live/{item['id']}"))["isLive"] is False
    assert (await api.json("GET", "/api/server"))["clients"]["http"] == 2


# ---- health, metrics, the page ----


class Away:
    """A channel store that does not answer."""

    async def check(self) -> None:
        raise StoreUnavailable("the database /secret/path does not answer", 7)

    get = get_many = list = add = update = delete = get_deleted = list_deleted = lambda self, *_, **__: self.check()


async def test_the_status_shows_the_node_its_machine_and_its_traffic(tmp_path: Path):
    async with admin(tmp_path) as api:
        item = await api.create(isHls=True)
        publisher = await api.push(item["id"])
        publisher.push(picture(0, key=True), publisher.on_air.since)
        api.metrics.last_lag = 0.0125
        found = await api.json("GET", "/status")
        assert found["version"] == "1.2.3" and found["uptime"] >= 0
        assert found["node"] == {"role": "primary", "address": "127.0.0.1"}
        assert found["cpu"]["cores"] >= 1 and found["memory"]["rss"] > 10_000_000
        assert 0 < found["disk"]["free"] <= found["disk"]["total"] and found["disk"]["path"] == str(tmp_path)
        assert (found["streams"], found["publishers"], found["loopLag"]) == (1, 1, 0.0125)
        assert found["viewers"]["flv"] == 0 and found["bytesIn"] > 0 and found["bytesOut"] == 0
        assert found["workers"] == {"running": 0, "most": 0}
        assert (found["ready"], found["missing"]) == (True, [])
        assert found["ports"] == PORTS.as_json()
        assert found["stores"] == {"channels": "sqlite", "objects": "file", "jobs": "sqlite", "console": "sqlite"}


async def test_the_status_names_an_unavailable_store(tmp_path: Path):
    async def away() -> None:
        raise StoreUnavailable("gone")

    async with admin(tmp_path, checks={"channel store": away}) as api:
        found = await api.json("GET", "/status")
        assert (found["ready"], found["missing"]) == (False, ["channel store"])


def test_the_cpu_load_is_measured_since_the_last_query(tmp_path: Path):
    now = 100.0
    node = NodeStatus(tmp_path, {}, clock=lambda: now)
    assert node.cpu()["percent"] == 0.0
    now = 100.5
    assert node.cpu()["percent"] == 0.0, "too soon to tell"
    before = time.process_time()
    while time.process_time() - before < 0.05:
        pass
    now = 102.0
    assert 2.0 <= node.cpu()["percent"] <= 100.0
    assert node.uptime == 2.0


async def test_the_log_level_can_be_changed_while_the_gateway_runs(api: Admin, capsys: pytest.CaptureFixture[str]):
    from gateway.lib import log

    log.configure("info", "json")
    assert await api.json("GET", "/log") == {"level": "info"}
    try:
        assert await api.json("PUT", "/log", {"level": "error"}) == {"level": "error"}
        assert (await api.json("GET", "/status"))["logLevel"] == "error"
        capsys.readouterr()
        await api.create()
        assert "channel created" not in "".join(capsys.readouterr())
        assert await api.json("PUT", "/log", {"level": "debug"}) == {"level": "debug"}
        for bad in ({}, {"level": "loud"}, {"level": 10}, {"level": ["info"]}):
            response = await api.call("PUT", "/log", bad)
            assert (response.status, (await response.json())["field"]) == (400, "level")
    finally:
        log.configure("info", "auto")


async def test_without_the_store_the_api_answers_503_with_retry_after(tmp_path: Path):
    async with admin(tmp_path, store=Away()) as api:
        for method, path, body in (
            ("GET", "/videostream", None),
            ("POST", "/videostream", {"outdate": FAR}),
            ("GET", "/videostream/x", None),
            ("PUT", "/videostream/x", {}),
            ("DELETE", "/videostream/x", None),
            ("DELETE", "/videostream/x?media=delete", None),
            ("GET", "/media/channels", None),
            ("GET", "/videostream/x/session", None),
        ):
            response = await api.call(method, path, body)
            assert response.status == 503
            assert response.headers["Retry-After"] == "7"
            assert "secret" not in await response.text()
        assert await (await api.call("GET", "/healthcheck", token=None)).text() == "OK"
        ready = await api.call("GET", "/ready", token=None)
        assert ready.status == 503
        assert await ready.json() == {"ready": False, "missing": ["channel store"]}
        assert await api.json("GET", "/videostreams/online") == []


async def test_live_sessions_are_shown_and_kicked_without_the_store(tmp_path: Path):
    async with admin(tmp_path, store=Away()) as api:
        item = await api.store.add({"id": "c1", "key": "1-" + "0" * 64, "outdate": FAR})
        await api.push(item.id)
        assert (await api.json("GET", "/videostream/c1/session"))["state"] == "live"
        await api.json("DELETE", "/videostream/c1/session")


async def test_ready_and_health_need_no_token(api: Admin):
    assert await (await api.call("GET", "/healthcheck", token=None)).text() == "OK"
    assert (await api.call("HEAD", "/healthcheck", token=None)).status == 200
    ready = await api.call("GET", "/ready", token=None)
    assert (ready.status, await ready.json()) == (200, {"ready": True, "missing": []})
    api.readiness.close()
    closing = await api.call("GET", "/ready", token=None)
    assert (closing.status, await closing.json()) == (503, {"ready": False, "missing": ["shutting down"]})


async def test_the_front_page_needs_no_token_and_holds_no_secret(api: Admin):
    await api.create()
    response = await api.call("GET", "/", token=None)
    text = await response.text()
    assert (response.status, response.content_type) == (200, "text/html")
    assert "Millrace" in text
    assert TOKEN not in text and SECRET not in text
    assert "unsafe" not in response.headers["Content-Security-Policy"]


async def test_metrics_count_streams_bytes_and_dropped_frames(api: Admin):
    item = await api.create()
    publisher = await api.push(item["id"])
    publisher.push(picture(0, key=True, size=1000), time.monotonic())
    publisher.on_air.dropped["late"] = 2
    await api.call("GET", "/videostream", token="wrong")
    text = await (await api.call("GET", "/metrics")).text()
    for line in (
        'millrace_streams{state="live"} 1.0',
        'millrace_publishers{protocol="rtmp"} 1.0',
        "millrace_ingest_bytes_total 1000.0",
        'millrace_frames_dropped_total{reason="late"} 2.0',
        'millrace_auth_failures_total{reason="wrong",what="api"} 1.0',
        'millrace_outputs{output="flv",state="running"} 1.0',
        'millrace_build_info{version="1.2.3"} 1.0',
    ):
        assert line in text
    assert item["id"] not in text
    api.hub.end(item["id"], EndReason.KICKED)
    text = await (await api.call("GET", "/metrics")).text()
    assert "millrace_ingest_bytes_total 1000.0" in text
    assert 'millrace_streams{state="live"} 0.0' in text
    assert 'millrace_frames_dropped_total{reason="late"} 2.0' in text


async def test_series_of_each_stream_are_behind_a_setting(tmp_path: Path):
    async with admin(tmp_path, per_stream=True) as api:
        item = await api.create()
        await api.push(item["id"])
        text = await (await api.call("GET", "/metrics")).text()
        assert f'millrace_stream_viewers{{stream="{item["id"]}"}} 0.0' in text


async def test_an_internal_error_gives_500_without_details(tmp_path: Path):
    class Broken(Away):
        async def check(self) -> None:
            raise RuntimeError("a secret detail")

    async with admin(tmp_path, store=Broken()) as api:
        response = await api.call("GET", "/videostream")
        assert response.status == 500
        assert await response.json() == {"error": "internal error"}


async def test_the_front_page_does_not_repeat_a_hostile_host_header(api: Admin):
    response = await api.client.get("/", headers={"Host": 'x"><script>alert(1)</script>'})
    assert response.status == 200
    assert "alert(1)" not in await response.text() + str(response.headers)


async def test_refusals_are_logged_in_one_line_without_the_token(api: Admin, capsys: pytest.CaptureFixture[str]):
    from gateway.lib import log

    log.configure("info", "json")
    await api.call("GET", "/videostream?sign=1-abc", token="guess-me")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["status"], line["path"]) for line in lines] == [
        ("api request refused", 401, "/videostream")
    ]
    assert "guess-me" not in json.dumps(lines)
