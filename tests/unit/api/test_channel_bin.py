"""Deleted channels in the bin: listed without keys, restored, and deleted for good."""

from pathlib import Path

from tests.support.admin import admin

INPUTS = [{"name": "spare", "kind": "backup"}, {"name": "card", "kind": "slate", "text": "Soon"}]


async def test_a_deleted_channel_is_listed_and_restored_with_key_and_inputs(tmp_path: Path):
    async with admin(tmp_path) as api:
        item = await api.create(videoname="Stage", slug="stage", inputs=INPUTS, srtPassphrase="srt-passphrase", mine=7)
        path, ended = f"/videostream/{item['id']}", []
        await api.push(item["id"], ended)
        inputs = await api.json("GET", f"{path}/inputs")
        assert await api.json("DELETE", path) == "stream deleted"
        assert len(ended) == 1
        listed = await api.call("GET", "/bin")
        (one,) = await listed.json()
        assert (one["id"], one["kind"], one["key"], one["title"]) == (item["id"], "channel", item["id"], "Stage")
        assert one["channel"] == item["id"] and one["until"] > one["deleted"]
        for text in (await listed.text(), await (await api.call("GET", "/media/channels")).text()):
            assert item["key"] not in text and "passphrase" not in text
        sign = f"/_servers/{item['id']}?sign={item['key']}"
        assert (await api.call("GET", sign, token=None)).status == 403  # the key is refused in the bin
        restored = await api.json("POST", f"/bin/{item['id']}/restore")
        assert restored == {"id": item["id"], "key": item["id"]}
        assert await api.json("GET", path) == item
        assert [one["key"] for one in await api.json("GET", f"{path}/inputs") if one.get("key")] == [
            one["key"] for one in inputs if one.get("key")
        ]
        assert (await api.call("GET", sign, token=None)).status == 200
        assert await api.json("GET", "/bin") == []
        assert (await api.call("POST", f"/bin/{item['id']}/restore")).status == 404


async def test_a_slug_that_is_in_use_again_is_left_out_and_the_answer_says_so(tmp_path: Path):
    async with admin(tmp_path) as api:
        item = await api.create(videoname="Stage", slug="stage")
        await api.json("DELETE", f"/videostream/{item['id']}?media=keep&final=false")
        await api.create(videoname="Other", slug="stage")
        restored = await api.json("POST", f"/bin/{item['id']}/restore")
        assert restored["text"] == "another channel has the address /stage/ now, so this one has none"
        shown = await api.json("GET", f"/videostream/{item['id']}")
        assert (shown.get("slug"), shown["key"]) == (None, item["key"])


async def test_an_id_that_is_in_use_again_is_a_conflict(tmp_path: Path):
    async with admin(tmp_path) as api:
        item = await api.create(videoname="Stage")
        await api.json("DELETE", f"/videostream/{item['id']}")
        await api.store.add({"id": item["id"], "key": "1-a", "videoname": "New"})
        refused = await api.json("POST", f"/bin/{item['id']}/restore", status=409)
        assert "exists already" in refused["error"]
        assert (await api.json("GET", f"/videostream/{item['id']}"))["videoname"] == "New"


async def test_a_channel_is_deleted_for_good_from_the_bin_or_at_once(tmp_path: Path):
    async with admin(tmp_path) as api:
        first, second, third = [(await api.create(videoname=name))["id"] for name in "abc"]
        await api.json("DELETE", f"/videostream/{first}?final=true")
        await api.json("DELETE", f"/videostream/{second}")
        await api.json("DELETE", f"/videostream/{third}")
        assert {one["id"] for one in await api.json("GET", "/bin")} == {second, third}
        assert await api.json("DELETE", f"/bin/{second}") == {"id": second, "key": second}
        assert await api.json("DELETE", "/bin") == [{"id": third, "key": third}]
        assert await api.json("GET", "/bin") == []
        for id in (first, second, third, "nowhere", "a b"):
            assert (await api.call("POST", f"/bin/{id}/restore")).status == 404
        assert (await api.json("DELETE", f"/videostream/{first}?final=maybe", status=400))["field"] == "final"


async def test_events_name_the_user_that_restored_a_channel(tmp_path: Path):
    async with admin(tmp_path) as api:
        id = (await api.create(videoname="Stage"))["id"]
        await api.json("DELETE", f"/videostream/{id}")
        await api.json("POST", f"/bin/{id}/restore")
        (event, *_) = await api.json("GET", f"/events?channel={id}")
        assert (event["type"], event["data"]["what"], event["data"]["change"]) == (
            "settings.changed",
            "channel",
            "restored",
        )
        assert event["data"]["by"] == "admin token"
