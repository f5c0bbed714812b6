"""Rights of a broadcaster: the user's own channels and nothing else."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from yarl import URL

from gateway.api.auth import COOKIE
from gateway.api.login_sessions import ApiUser
from gateway.api.routes import ROUTES, routes_of
from gateway.ports.users import UserRole
from tests.support.admin import Admin, admin

# The routes that a broadcaster may use. A route that is not here answers 403, also one that is added later.
OPEN = {
    "GET /videostream",
    "GET /videostream/{id}",
    "GET /videostream/{id}/qr",
    "GET /videostream/{id}/obs-multitrack",
    "PUT /videostream/{id}/relay",
    "PUT /videostream/{id}/about",
    "PUT /videostream/{id}/poster",
    "DELETE /videostream/{id}/poster",
    "GET /videostream/{id}/experience",
    "GET /videostream/{id}/traffic",
    "GET /videostream/{id}/shows",
    "GET /videostream/{id}/shows/{show}",
    "POST /videostream/{id}/shows/{show}/share",
    "GET /events",
    "GET /history",
    "PUT /account/password",
    "GET /account/second-factor",
    "POST /account/second-factor",
    "PUT /account/second-factor",
    "POST /account/second-factor/off",
    "GET /videostream/{id}/session",
    "DELETE /videostream/{id}/session",
    "POST /videostream/{id}/cues",
    "GET /videostream/{id}/cues",
    "POST /videostream/{id}/metadata",
    "GET /videostream/{id}/inputs",
    "POST /videostream/{id}/inputs/{name}/take",
    "DELETE /videostream/{id}/inputs/take",
    "GET /videostream/{id}/inputs/{name}/preview",
    "GET /videostream/{id}/captions",
    "POST /videostream/{id}/captions",
    "GET /videostreams",
    "GET /videostreams/online",
    "GET /videostream/{id}/recordings",
    "POST /videostream/{id}/clips",
    "GET /videostream/{id}/export",
    "GET /servers",
    "POST /logout",
    "GET /profile",
    "PUT /profile",
    "POST /putitens",
    "GET /putitens/{username}",
    "POST /qr",
}
PASSWORD = "correct horse"


@dataclass
class Browser:
    """A signed-in user."""

    api: Admin
    csrf: str

    async def call(self, method: str, path: str, body: Any = None) -> ClientResponse:
        response = await self.api.client.request(method, path, json=body, headers={"X-CSRF-Token": self.csrf})
        await response.read()
        return response

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        response = await self.call(method, path, body)
        assert response.status == 200, await response.text()
        return await response.json()


async def sign_in(api: Admin) -> Browser:
    """Opens a session of the user eva without the slow password hash."""
    user = await api.authenticators.users.find("eva")
    assert user is not None
    logins, now = api.authenticators.logins, api.authenticators.clock()
    cookie, login = await logins.open(ApiUser("user", "eva", "eva", user.rights), user.mark, now)
    api.client.session.cookie_jar.update_cookies({COOKIE: cookie}, api.client.make_url("/"))
    return Browser(api, login.csrf)


@dataclass
class Studio:
    """Two channels, and the user eva with rights to one of them."""

    api: Admin
    own: str
    other: str
    eva: Browser


def test_the_page_of_the_api_names_each_route_that_a_broadcaster_may_use() -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
    section = page.partition("### Roles")[2].partition("\n## ")[0]
    paths = {route.path for route in ROUTES if route.role is UserRole.BROADCASTER}
    ends = {path: path.rpartition("{id}")[2] or path for path in paths}
    assert [path for path, end in ends.items() if f"{end}`" not in section and f"{end}?" not in section
            and f"{end} " not in section and f"…{end.removeprefix('/account')}`" not in section] == []  # fmt: skip


@pytest_asyncio.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with admin(tmp_path) as api:
        own, other = (await api.create(videoname="own", isHls=True))["id"], (await api.create(videoname="other"))["id"]
        stored = {"password": {}, "created": 1.0, "changed": 1.0, "mark": "m", "role": "broadcaster", "channels": [own]}
        await api.authenticators.store.put("user", "eva", stored)
        yield Studio(api, own, other, await sign_in(api))


def test_only_the_listed_routes_are_open_to_broadcasters():
    assert {route.endpoint for route in ROUTES if route.role is UserRole.BROADCASTER} == OPEN


async def test_every_other_route_is_forbidden(studio: Studio):
    for route in ROUTES:
        if route.public or route.endpoint in OPEN:
            continue
        path = re.sub(r"{id(:[^}]*)?}", studio.own, route.path)
        path = re.sub(r"{[^}]*}", "x", path)
        response = await studio.eva.call(route.method, path, {} if route.operation.body else None)
        assert response.status == 403, route.endpoint
        assert "administrator" in (await response.json())["error"], route.endpoint
    assert (await studio.api.json("GET", "/users"))[0]["name"] == "eva"  # nothing of all that was done


async def test_foreign_and_missing_channels_give_the_same_403(studio: Studio):
    for method, path in (e.split(" ") for e in sorted(OPEN) if "{id}" in e):
        for id in (studio.other, "nowhere", "a%20b"):
            path = path.replace("{name}", "x").replace("{show}", "1")
            response = await studio.eva.call(method, path.replace("{id}", id), {} if method == "PUT" else None)
            assert (response.status, await response.text()) == (403, '{"error":"this is not one of your channels"}')


async def test_events_and_history_are_those_of_the_own_channel_only(studio: Studio):
    await studio.api.json("PUT", f"/videostream/{studio.own}", {"videoname": "renamed"})
    await studio.api.json("PUT", f"/videostream/{studio.other}", {"videoname": "renamed too"})
    for path in ("/events", "/history?hours=1", "/history?nodes=all"):
        join = "&" if "?" in path else "?"
        for query in ("", f"{join}channel=", f"{join}channel={studio.other}", f"{join}channel=nowhere",
                      f"{join}channel={studio.other}&channel={studio.own}"):  # fmt: skip
            assert (await studio.eva.call("GET", path + query)).status == 403, path + query
        await studio.eva.json("GET", f"{path}{join}channel={studio.own}&channel={studio.other}")
    events = await studio.eva.json("GET", f"/events?channel={studio.own}&channel={studio.other}")
    assert {event["channel"] for event in events} == {studio.own}
    assert all("peer" not in event["data"] for event in events if "by" in event["data"])


async def test_a_broadcaster_changes_title_description_and_next_show_and_nothing_else(studio: Studio):
    path = f"/videostream/{studio.own}/about"
    show = {"title": "Final", "at": 1_900_000_000}
    item = await studio.eva.json("PUT", path, {"videoname": "Concert", "description": "Tonight", "upcoming": show})
    assert (item["videoname"], item["description"], item["upcoming"]) == ("Concert", "Tonight", show)
    before = await studio.api.json("GET", f"/videostream/{studio.own}")
    for body in ({"slug": "stage"}, {"poster": ""}, {"videoname": "x", "outdate": "2091-01-01"}, {"isPublic": True},
                 {"announce": ["ntfy://topic"]}):  # fmt: skip
        refused = await studio.eva.call("PUT", path, body)
        assert (refused.status, (await refused.json())["field"]) == (400, list(body)[-1])
    assert (await studio.eva.call("PUT", f"/videostream/{studio.own}", {"videoname": "x"})).status == 403
    assert await studio.api.json("GET", f"/videostream/{studio.own}") == before


SPELLINGS = (
    *("/videostream/{other}/", "/videostream//{other}", "//videostream/{other}", "/VIDEOSTREAM/{other}"),
    *("/videostream/{own}/../{other}", "/videostream/{own}%2f..%2f{other}", "/videostream/%2e%2e/videostream/{other}"),
    *("/videostream/{other}%00", "/videostream/{other};{own}", "/videostream/{other}?id={own}"),
    *("/videostream/{own}/recordings/../../{other}", "/videostream/{own}/recordings/%2e%2e/%2e%2e/{other}"),
    *("/videostream/{other}/session%3f", "/videostream/{other}@720p", "/api/streams/stream/{other}"),
)


async def test_no_spelling_of_a_url_shows_a_foreign_channel(studio: Studio):
    key = (await studio.api.json("GET", f"/videostream/{studio.other}"))["key"]
    base = str(studio.api.client.make_url("")).rstrip("/")
    for spelling in SPELLINGS:
        url = URL(base + spelling.format(own=studio.own, other=studio.other), encoded=True)
        response = await studio.api.client.session.get(url, allow_redirects=False)
        assert response.status >= 300, spelling
        assert key not in await response.text(), spelling


@pytest.mark.parametrize(
    "body",
    [
        *({"id": "x"}, {"isRelay": True, "playAuth": "none"}, {"isRelay": True, "inputs": []}, {"IsRelay": True}),
        *({"isRelay ": True}, {"relayURL": "file:///etc/passwd"}, {"relayURL": {"a": 1}}, {"relayURL": ["x"] * 5000}),
    ],
)
async def test_the_relay_route_refuses_other_fields_and_invalid_urls(studio: Studio, body: dict[str, Any]):
    before = await studio.api.json("GET", f"/videostream/{studio.own}")
    assert (await studio.eva.call("PUT", f"/videostream/{studio.own}/relay", body)).status == 400
    assert await studio.api.json("GET", f"/videostream/{studio.own}") == before


async def test_lists_show_only_the_users_own_channels(studio: Studio):
    for id in (studio.own, studio.other):
        await studio.api.push(id)
    assert [c["id"] for c in await studio.eva.json("GET", "/videostream")] == [studio.own]
    page = await studio.eva.json("GET", "/videostreams?sort=state")
    assert ([c["id"] for c in page["channels"]], page["found"]) == ([studio.own], 1)
    assert page["states"] == {"live": 1, "idle": 0, "expired": 0}
    assert (await studio.api.json("GET", "/videostreams"))["states"]["live"] == 2
    assert [s["id"] for s in await studio.eva.json("GET", "/videostreams/online")] == [studio.own]
    assert len(await studio.api.json("GET", "/videostreams/online")) == 2


async def test_a_broadcaster_can_read_push_to_and_end_the_own_channel(studio: Studio):
    item = await studio.eva.json("GET", f"/videostream/{studio.own}")
    assert item["pushUrl"].endswith(f"/{studio.own}?sign={item['key']}")
    evicted: list[Any] = []
    await studio.api.push(studio.own, evicted)
    assert (await studio.eva.json("GET", f"/videostream/{studio.own}/session"))["state"] == "live"
    await studio.eva.json("DELETE", f"/videostream/{studio.own}/session")
    assert len(evicted) == 1
    assert (await studio.eva.call("GET", f"/videostream/{studio.own}/qr")).content_type == "image/svg+xml"


async def test_a_broadcaster_can_change_only_the_relay_of_a_channel(studio: Studio):
    path = f"/videostream/{studio.own}/relay"
    item = await studio.eva.json("PUT", path, {"isRelay": True, "relayURL": "rtmp://media.example.com/app/secret"})
    assert item["isRelay"] is True
    assert "secret" not in str(item)
    refused = await studio.eva.call("PUT", path, {"isRelay": True, "outdate": "2091-01-01"})
    assert (refused.status, (await refused.json())["field"]) == (400, "outdate")


async def test_positions_of_targets_do_not_hide_an_ivs_channel(studio: Studio):
    path = f"/videostream/{studio.own}/relay"
    await studio.eva.json("PUT", path, {"relayURL": ["rtmp://media.example.com/app/secret"]})
    other = "arn:aws:ivs:eu-west-1:123456789012:channel/other"
    refused = await studio.eva.call("PUT", path, {"relayURL": [0, other]})
    assert (refused.status, (await refused.json())["field"]) == (403, "relayURL")
    await studio.eva.json("PUT", path, {"relayURL": [0, "rtmp://b.example.com/app/key"], "relayOff": [1]})


async def test_a_broadcaster_relays_only_to_ivs_channels_set_by_an_administrator(studio: Studio):
    path = f"/videostream/{studio.own}"
    granted, other = (f"arn:aws:ivs:eu-west-1:123456789012:channel/{name}" for name in ("granted", "other"))
    own = "rtmps://media.example.com/app/x"
    for value in (granted, [own, f" {granted} "], f"{own},{granted}"):
        refused = await studio.eva.call("PUT", f"{path}/relay", {"isRelay": True, "relayURL": value})
        assert (refused.status, (await refused.json())["field"]) == (403, "relayURL"), value
    await studio.api.json("PUT", path, {"relayURL": [granted]})
    item = await studio.eva.json("PUT", f"{path}/relay", {"isRelay": True, "relayURL": [own, granted]})
    assert granted in item["relayURL"]
    assert (await studio.eva.call("PUT", f"{path}/relay", {"relayURL": [granted, other]})).status == 403
    assert (await studio.api.json("PUT", f"{path}/relay", {"relayURL": other}))["relayURL"] == other


async def test_ivs_parameters_are_private_to_their_user(studio: Studio):
    parameters = {"username": "eva", "channelType": "IVS", "rtmpURL": "rtmps://x.global-contribute.live-video.net/app/",
                  "streamKey": "sk_1", "playURL": "https://x.live-video.net/a.m3u8"}  # fmt: skip
    assert (await studio.eva.call("GET", "/putitens/eva")).status == 404
    await studio.eva.json("PUT", "/profile", {"theme": "dark"})
    assert await studio.eva.json("POST", "/putitens", parameters) == parameters
    assert await studio.eva.json("GET", "/putitens/eva") == {name: {"S": text} for name, text in parameters.items()}
    profile = await studio.eva.json("GET", "/profile")  # where the broadcaster page keeps them
    assert profile == {"theme": "dark", "ivs": {k: v for k, v in parameters.items() if k != "username"}}
    assert (await studio.eva.call("POST", "/putitens", {**parameters, "username": "adam"})).status == 403
    assert (await studio.eva.call("GET", "/putitens/adam")).status == 403
    assert (await studio.api.call("GET", "/putitens/eva")).status == 403  # not even an administrator reads them
    assert (await studio.eva.call("POST", "/putitens", {**parameters, "channelType": "X"})).status == 400


async def test_ivs_parameters_count_towards_the_size_limit_of_a_profile(studio: Studio):
    profile = {"x": "x" * 63_900}
    await studio.eva.json("PUT", "/profile", profile)
    parameters = {"username": "eva", "channelType": "IVS", "rtmpURL": "x" * 100, "streamKey": "", "playURL": ""}
    assert (await studio.eva.call("POST", "/putitens", parameters)).status == 413
    assert await studio.eva.json("GET", "/profile") == profile


@pytest.mark.parametrize("changes", [{"role": "administrator"}, {"role": "broadcaster", "channels": []},
                                     {"password": "another horse"}])  # fmt: skip
async def test_a_change_of_rights_or_password_ends_the_users_sessions(studio: Studio, changes: dict[str, Any]):
    await studio.eva.json("GET", f"/videostream/{studio.own}")
    await studio.api.json("PUT", "/users/eva", changes)
    assert (await studio.eva.call("GET", f"/videostream/{studio.own}")).status == 401


async def test_a_new_role_keeps_the_password_and_a_new_password_keeps_the_role(tmp_path: Path):
    async with admin(tmp_path) as api:
        id = (await api.create())["id"]
        created = {"name": "adam", "password": "first horse", "role": "broadcaster", "channels": [id]}
        user = await api.json("POST", "/users", created)
        assert (user["role"], user["channels"]) == ("broadcaster", [id])
        user = await api.json("PUT", "/users/adam", {"password": PASSWORD})
        assert (user["role"], user["channels"]) == ("broadcaster", [id])
        await api.json("PUT", "/users/adam", {"role": "broadcaster", "channels": []})
        login = await (await api.client.post("/login", json={"name": "adam", "password": PASSWORD})).json()
        assert login["user"] == {"name": "adam", "kind": "user", "role": "broadcaster"}


@pytest.mark.parametrize(
    ("rights", "field"),
    [
        ({"role": "owner"}, "role"),
        ({"role": "administrator", "channels": ["x"]}, "channels"),
        ({"role": "broadcaster", "channels": ["nowhere"]}, "channels"),
        ({"role": "broadcaster", "channels": "x"}, "channels"),
        ({"role": "broadcaster", "channels": ["x"] * 101}, "channels"),
        ({"channels": []}, "role"),
        ({}, "password"),
    ],
)
async def test_invalid_rights_are_refused(studio: Studio, rights: dict[str, Any], field: str):
    response = await studio.api.call("PUT", "/users/eva", rights)
    assert (response.status, (await response.json())["field"]) == (400, field)


async def test_a_stream_key_gives_access_only_to_the_server_list(studio: Studio):
    key = (await studio.api.json("GET", f"/videostream/{studio.own}"))["key"]
    studio.api.client.session.cookie_jar.clear()
    servers = await studio.api.call("GET", f"/_servers/{studio.own}?sign={key}", token=None)
    assert servers.status == 200
    assert [(s["role"], s["address"]) for s in await servers.json()] == [("primary", "127.0.0.1")]
    other = await studio.api.call("GET", f"/_servers/{studio.other}?sign={key}", token=None)
    unknown = await studio.api.call("GET", f"/_servers/nowhere?sign={key}", token=None)
    missing = await studio.api.call("GET", f"/_servers/{studio.own}", token=None)
    assert {r.status for r in (other, unknown, missing)} == {403}
    assert await other.text() == await unknown.text() == await missing.text()
    await studio.api.json("PUT", f"/videostream/{studio.own}", {"outdate": "2091-01-01"})  # replaces the key
    assert (await studio.api.call("GET", f"/_servers/{studio.own}?sign={key}", token=None)).status == 403
    assert (await studio.api.call("GET", f"/videostream/{studio.own}?sign={key}", token=None)).status == 401


async def test_the_web_pages_can_be_turned_off(tmp_path: Path):
    async with admin(tmp_path, routes=routes_of(False)) as api:
        for route in ROUTES:
            if route.page:
                path = route.path.replace("{path:.+}", "players/tokens.css")
                assert (await api.call(route.method, path)).status == 404, route.endpoint
        assert (await api.call("GET", "/videostream")).status == 200
        assert "/docs" not in (await api.json("GET", "/openapi.json"))["paths"]


async def test_a_text_becomes_a_qr_code(studio: Studio):
    svg = (await studio.api.json("POST", "/qr", {"text": "rtmp://host/stream/x?sign=1-a"}))["svg"]
    assert svg.startswith("<svg role=")
    for text in ("", "x" * 1025, "two\nlines", 7):
        assert (await studio.api.call("POST", "/qr", {"text": text})).status == 400
