"""Rights of an observer: reads all channels or some, sees no key, and changes nothing."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.api.routes import ROUTES
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.ports import media_keys
from gateway.ports.api_tokens import ApiTokens
from gateway.ports.errors import UnreadableRow
from gateway.ports.users import Rights, UserRole, Users, stored_rights, stored_value
from tests.support.admin import TOKEN, Admin, admin

# What each route answers an observer. A route that is not here answers 403, also one that is added later.
LISTED = {  # observers of all channels, and those of some channels for these
    *("GET /videostream", "GET /videostream/{id}", "GET /videostream/{id}/qr", "GET /videostream/{id}/session"),
    *("GET /videostream/{id}/experience", "GET /videostream/{id}/traffic", "GET /videostream/{id}/inputs"),
    *("GET /videostream/{id}/inputs/{name}/preview", "GET /videostream/{id}/captions", "GET /videostream/{id}/cues"),
    *("GET /videostreams", "GET /videostreams/online", "GET /videostream/{id}/recordings"),
    *("GET /videostream/{id}/export", "GET /events", "GET /history", "GET /profile", "GET /account/second-factor"),
    *("GET /videostream/{id}/shows", "GET /videostream/{id}/shows/{show}"),
}
ALL = {  # only observers of all channels
    *("GET /videostreams/traffic", "GET /media", "GET /media/channels", "GET /bin", "GET /jobs", "GET /jobs/{id}"),
    *("GET /films", "GET /films/{key:.+}", "GET /filmqr/{key:.+}", "GET /site", "GET /site/logo", "GET /domains"),
    *(
        "GET /fields",
        "GET /ladders",
        "GET /outputs",
        "GET /alarms",
        "GET /nodes",
        "GET /metrics",
        "GET /openapi.json",
        "GET /status",
    ),
    *("GET /log", "GET /users", "GET /tokens", "GET /api/server", "GET /api/streams", "GET /api/streams/{app}/{id}"),
}
ACCOUNT = {  # signed-in observers, for their own account
    *("POST /logout", "PUT /profile", "PUT /account/password", "POST /account/second-factor"),
    *("PUT /account/second-factor", "POST /account/second-factor/off", "POST /qr"),
}
SECRETS = ("relay-key", "pull-key", "srt-passphrase", "picture-key", "mark-key", "unknown-key", "alarm-key", "told-key")


@dataclass
class Watch:
    """Two channels, and a token for each kind of observer and for a broadcaster of the first channel."""

    api: Admin
    own: str
    other: str
    keys: tuple[str, ...]
    everything: str
    some: str
    broadcaster: str

    async def status(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
        response = await self.api.call(method, path, body, token=token)
        return response.status, await response.text()


@pytest_asyncio.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    async with admin(tmp_path) as api:
        inputs = [
            {"name": "spare", "kind": "backup"},
            {"name": "film", "kind": "slate", "picture": "https://x.example/a.jpg?t=picture-key"},
            {"name": "pull", "kind": "pull", "url": "https://user:pull-key@x.example/live.m3u8?t=pull-key"},
        ]
        fields = {
            "isHls": True,
            "playAuth": "sign",
            "isRelay": True,
            "relayURL": ["rtmp://x.example/app/relay-key"],
            "srtPassphrase": "srt-passphrase",
            "inputs": inputs,
            "announce": ["discord://1/told-key"],
            "ImageURL": "https://x.example/a.png?t=mark-key",
        }
        items = [await api.create(videoname=name, mine="unknown-key", **fields) for name in "ab"]
        own, other = (item["id"] for item in items)
        backups = [
            one["key"]
            for id in (own, other)
            for one in await api.json("GET", f"/videostream/{id}/inputs")
            if one.get("key")
        ]
        await api.json("PUT", "/alarms", [{"name": "a", "on": ["off_air"], "to": "ntfy://x.example/alarm-key"}])
        rights = ({"role": "observer"}, {"role": "observer", "channels": [own]})
        tokens = [
            (await api.json("POST", "/tokens", {"name": f"t{number}", **one}))["token"]
            for number, one in enumerate((*rights, {"role": "broadcaster", "channels": [own]}))
        ]
        yield Watch(api, own, other, (*(item["key"] for item in items), *backups), *tokens)


def _path(path: str, id: str) -> str:
    return re.sub(r"{[^}]*}", "x", re.sub(r"{id(:[^}]*)?}", id, path))


def test_only_the_listed_routes_are_open_to_observers():
    opened = {route.endpoint: route for route in ROUTES if route.observer}
    assert set(opened) == LISTED | ALL | ACCOUNT
    assert {endpoint for endpoint, route in opened.items() if route.role is UserRole.ADMINISTRATOR} == ALL
    assert {route.endpoint for route in ROUTES if route.observer and route.method != "GET"} == ACCOUNT


async def test_each_route_answers_each_role(watch: Watch):
    """403 or another status, for each route and role. What a role may change is left out: it is not done here."""
    for route in ROUTES:
        if route.public or route.endpoint in ("GET /videostream/{id}/export", "GET /putitens/{username}"):
            continue
        reads, for_broadcasters = route.method == "GET", route.role is UserRole.BROADCASTER
        allowed = {watch.everything: route.endpoint in LISTED | ALL, watch.some: route.endpoint in LISTED}
        allowed |= {watch.broadcaster: for_broadcasters, TOKEN: True} if reads or not for_broadcasters else {}
        query = f"?channel={watch.own}" if route.by_query else "?url=hls" if route.path.endswith("/qr") else ""
        path = _path(route.path, watch.own) + query
        for token, may in allowed.items():
            if may and not reads:
                continue
            status, text = await watch.status(token, route.method, path, {} if route.operation.body else None)
            assert (status != 403) is may, (route.endpoint, status)
            assert reads or "an observer may not do this" in text or token == watch.broadcaster, route.endpoint
    assert len(await watch.api.json("GET", "/videostream")) == 2  # nothing was done


async def test_no_answer_to_an_observer_has_a_key_or_a_push_address(watch: Watch):
    await watch.api.push(watch.own)
    secrets = (*SECRETS, *watch.keys, *(key.partition("-")[2] for key in watch.keys), TOKEN)
    for token in (watch.everything, watch.some):
        for route in (route for route in ROUTES if route.method == "GET" and not route.page):
            for query in ("", f"?channel={watch.own}"):
                for id in (watch.own, watch.other):
                    _, text = await watch.status(token, "GET", _path(route.path, id) + query)
                    assert [one for one in secrets if one in text] == [], (route.endpoint, text)
    item = await watch.api.call("GET", f"/videostream/{watch.own}", token=watch.everything)
    shown = await item.json()
    assert {"key", "pushUrl", "pushUrls", "obsServer", "obsKey", "srtPassphrase", "mine"} & set(shown) == set()
    assert (shown["videoname"], shown["relayURL"]) == ("a", ["rtmp://x.example/app/********"])
    assert "sign=" in shown["playUrls"]["hls"]  # an observer may watch
    full = await watch.api.json("GET", f"/videostream/{watch.own}")
    assert (full["mine"], full["srtPassphrase"]) == ("unknown-key", "srt-passphrase")


async def test_an_observer_gets_no_qr_code_of_a_push(watch: Watch):
    for query in ("", "?url=push"):
        assert (await watch.status(watch.everything, "GET", f"/videostream/{watch.own}/qr{query}"))[0] == 403
    assert (await watch.status(watch.everything, "GET", f"/videostream/{watch.own}/qr?url=hls"))[0] == 200


async def test_an_observer_of_some_channels_sees_only_these(watch: Watch):
    status, text = await watch.status(watch.some, "GET", "/videostreams")
    assert (status, watch.own in text, watch.other in text) == (200, True, False)
    _, text = await watch.status(watch.some, "GET", "/videostream")
    assert (watch.own in text, watch.other in text) == (True, False)
    for path in (f"/videostream/{watch.other}", f"/events?channel={watch.other}", "/events", "/history?hours=1"):
        assert (await watch.status(watch.some, "GET", path))[0] == 403, path
    for path in (f"/videostream/{watch.own}", f"/events?channel={watch.own}"):
        assert (await watch.status(watch.some, "GET", path))[0] == 200, path
    for path in ("/events", "/history?hours=1", f"/videostream/{watch.other}"):
        assert (await watch.status(watch.everything, "GET", path))[0] == 200, path


async def test_new_users_are_broadcasters_without_channels(tmp_path: Path):
    async with admin(tmp_path) as api:
        user = await api.json("POST", "/users", {"name": "eva", "password": "correct horse"})
        assert (user["role"], user["channels"]) == ("broadcaster", [])


async def test_an_observer_changes_only_the_own_account(tmp_path: Path):
    async with admin(tmp_path) as api:
        id = (await api.create())["id"]
        await api.json("POST", "/users", {"name": "eva", "password": "correct horse", "role": "observer"})
        login = await (await api.client.post("/login", json={"name": "eva", "password": "correct horse"})).json()
        assert login["user"]["role"] == "observer"
        headers = {"X-CSRF-Token": login["csrf"]}
        assert (await api.client.put("/profile", json={"language": "zh"}, headers=headers)).status == 200
        assert (await api.client.put(f"/videostream/{id}", json={"videoname": "x"}, headers=headers)).status == 403
        assert (await api.client.delete(f"/videostream/{id}", headers=headers)).status == 403
        changed = {"old": "correct horse", "new": "another horse"}
        assert (await api.client.put("/account/password", json=changed, headers=headers)).status == 200


def test_an_earlier_version_skips_the_row_of_an_observer():
    """It reads an unknown role as broadcaster, so a list of channels would let an observer push to them."""
    value = stored_value(Rights(UserRole.OBSERVER, ("a",)))
    assert stored_rights(value) == Rights(UserRole.OBSERVER, ("a",))
    with pytest.raises(TypeError):
        tuple(value.get("channels", ()))
    for rights in (Rights(), Rights(UserRole.BROADCASTER, ("a",))):  # these rows are as before
        assert stored_value(rights) == {"role": str(rights.role), "channels": list(rights.channels)}


async def test_a_role_of_a_later_version_is_skipped_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    async with admin(tmp_path) as api:
        later = {"password": {}, "created": 1.0, "changed": 1.0, "mark": "m", "role": "auditor", "channels": ["a"]}
        await api.authenticators.store.put("user", "max", later)
        await api.json("POST", "/users", {"name": "eva", "password": "correct horse"})
        assert [user["name"] for user in await api.json("GET", "/users")] == ["eva"]
        with pytest.raises(UnreadableRow, match="the user max cannot be read"):
            await Users(api.authenticators.store).find("max")
        assert len(await ApiTokens(api.authenticators.store).list()) == 0


async def test_events_name_the_user_and_the_changed_settings_without_values(watch: Watch):
    made = await watch.api.json("POST", "/tokens", {"name": "deploy", "role": "administrator"})
    for method, path, body in (
        ("POST", "/users", {"name": "eva", "password": "correct horse"}),
        ("PUT", "/users/eva", {"password": "another horse"}),
        ("PUT", "/domains", {"pushDNS": "push.example.com"}),
        ("PUT", "/alarms", [{"name": "a", "on": ["off_air"], "to": "ntfy://x.example/alarm-key"}]),
        ("PUT", f"/videostream/{watch.own}", {"srtPassphrase": "srt-passphrase-2"}),
        ("DELETE", "/users/eva", None),
    ):
        assert (await watch.status(made["token"], method, path, body))[0] == 200
    events = await watch.api.json("GET", "/events?limit=7")
    by_token = {"by": "deploy", "via": "token", "peer": "127.0.0.1"}
    settings = [event["data"] for event in events if event["type"] == "settings.changed"]
    assert [(one["what"], one["change"], one["name"], one["fields"]) for one in settings] == [
        ("user", "deleted", "eva", []),
        ("alarms", "changed", "", []),
        ("domains", "changed", "", ["pushDNS"]),
        ("user", "changed", "eva", ["password"]),
        ("user", "created", "eva", []),
        ("token", "created", "deploy", []),
    ]
    assert all(by_token.items() <= one.items() for one in settings[:-1])
    assert settings[-1]["by"] == "admin token"
    (changed,) = (event["data"] for event in events if event["type"] == "channel.changed")
    assert changed == {"name": "a", "fields": ["srtPassphrase"], **by_token}
    shown = (await watch.status(watch.everything, "GET", "/events"))[1]
    assert not any(text in shown for text in ("horse", "passphrase-2", "alarm-key", "127.0.0.1"))


async def test_events_name_the_user_that_acted_on_a_live_channel_and_its_recordings(watch: Watch, tmp_path: Path):
    made = await watch.api.json("POST", "/tokens", {"name": "deploy", "role": "administrator"})
    await watch.api.push(watch.own)
    start = 1_790_000_000_000
    key = media_keys.playlist_key(watch.own, start)
    segments = [RecordedSegment(start + n, 4.0, 1, not n, start / 1000) for n in range(2)]
    for name, content in (
        (key, playlist(segments)),
        *((media_keys.segment_key(watch.own, s.number), "-") for s in segments),
    ):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).write_text(content)
    path, recording = f"/videostream/{watch.own}", key.partition("/")[2]
    for method, address, body in (
        ("POST", f"{path}/outputs/flv", {"enabled": False}),
        ("DELETE", f"{path}/session", None),
        ("PUT", f"{path}/recordings/{recording}", {"hidden": True}),
        ("DELETE", f"{path}/recordings/{recording}", None),
    ):
        assert (await watch.status(made["token"], method, address, body))[0] == 200, address
    (entry,) = await watch.api.json("GET", "/bin")
    await watch.api.json("POST", f"/bin/{entry['id']}/restore")
    await watch.api.json("DELETE", f"{path}/recordings/{recording}?final=true")
    events = await watch.api.json("GET", f"/events?channel={watch.own}&limit=20")
    acts = [event["data"] for event in events if event["type"] == "settings.changed"]
    assert [(one["what"], one["change"], one["name"], one["fields"], one["by"]) for one in acts] == [
        ("recording", "deleted_for_good", key, [], "admin token"),
        ("recording", "restored", key, [], "admin token"),
        ("recording", "deleted", key, [], "deploy"),
        ("recording", "changed", key, ["hidden"], "deploy"),
        ("push", "ended", "", [], "deploy"),
        ("output", "off", "flv", [], "deploy"),
    ]
