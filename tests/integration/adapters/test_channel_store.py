"""The contract of all channel stores and domain stores."""

import asyncio
import uuid

import pytest

from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import Channel, changes
from gateway.channels.stream_key import SigningSecrets
from gateway.ports.errors import ChannelExists, NoSuchChannel, SlugTaken, StoreUnavailable

ITEM = {
    "id": "70ef9b07-adbe-478d-b098-d7c8efd84a98",
    "key": "1893456000-733b785ad3bd71ab62189ed2f034fc56",
    "TimeStamp": 1_700_259_200,
    "outdate": "2030-01-01",
    "videoname": "Foyer – 大厅",
    "description": "",
    "isFlv": True,
    "isHls": "false",
    "hls_time": "2",
    "video_time": 60,
    "half": 2.5,
    "tenth": 0.1,
    "small": -1.25e-7,
    "large": 12345678901234567890,
    "nothing": None,
    "refererAllow": ["example.com", "*.example.org"],
    "empty": [],
    "deep": {"list": [1, 2.5, "x", True, None, {"y": {}}]},
}
ID = ITEM["id"]
NOW = 1_790_000_000.25


async def test_the_store_returns_an_added_item_unchanged(stores):
    added = await stores.channels.add(ITEM)
    got = await stores.channels.get(ID)
    assert added.item == got.item == ITEM
    assert {name: type(value) for name, value in got.item.items()} == {
        name: type(value) for name, value in ITEM.items()
    }


async def test_an_id_can_be_added_only_once(stores):
    await stores.channels.add(ITEM)
    with pytest.raises(ChannelExists):
        await stores.channels.add(ITEM | {"videoname": "another"})
    assert (await stores.channels.get(ID)).name == ITEM["videoname"]


async def test_only_one_of_several_simultaneous_adds_of_an_id_succeeds(stores):
    results = await asyncio.gather(*(stores.channels.add(ITEM | {"n": n}) for n in range(10)), return_exceptions=True)
    assert sum(isinstance(r, ChannelExists) for r in results) == 9


async def test_many_channels_are_read_at_once_without_those_that_are_deleted_or_unknown(stores):
    ids = [f"c{n}" for n in range(120)]  # DynamoDB answers at most 100 in a request
    for begin in range(0, 120, 20):  # the double of DynamoDB is slow
        await asyncio.gather(*(stores.channels.add(ITEM | {"id": id}) for id in ids[begin : begin + 20]))
    await stores.channels.delete("c7", NOW)
    read = await stores.channels.get_many([*ids, "nobody"])
    assert read == {id: Channel(ITEM | {"id": id}) for id in ids if id != "c7"}


@pytest.mark.parametrize("id", ["nobody", "", "a/b", "é", "\ud800", "\0", "x" * 5000, "' OR 1=1 --"])
async def test_an_unknown_id_raises_no_such_channel(stores, id):
    await stores.channels.add(ITEM)
    with pytest.raises(NoSuchChannel):
        await stores.channels.get(id)
    with pytest.raises(NoSuchChannel):
        await stores.channels.update(id, {"videoname": "x"})
    with pytest.raises(NoSuchChannel):
        await stores.channels.update(id, {})
    with pytest.raises(NoSuchChannel):
        await stores.channels.delete(id, NOW)
    assert [c.id for c in await stores.channels.list()] == [ID]


async def test_an_update_sets_its_fields_and_leaves_the_others(stores):
    await stores.channels.add(ITEM)
    # `key` and `TimeStamp` are reserved words of DynamoDB; a dot or a hash in a name must not be read as a path.
    changed = {"key": "1-2", "TimeStamp": 5, "outdate": "2031-01-01", "name.with.dots": 1, "#hash": [0.5], "deep": None}
    updated = await stores.channels.update(ID, changed)
    assert updated.item == ITEM | changed
    assert (await stores.channels.get(ID)).item == ITEM | changed


async def test_an_empty_update_returns_the_channel(stores):
    await stores.channels.add(ITEM)
    assert (await stores.channels.update(ID, {})).item == ITEM


async def test_an_update_cannot_move_a_channel(stores):
    await stores.channels.add(ITEM)
    assert (await stores.channels.update(ID, {"id": "another", "videoname": "x"})).id == ID


async def test_sixty_fields_can_be_updated_at_once(stores):
    await stores.channels.add(ITEM)
    many = {f"field{i}": i for i in range(60)}
    assert (await stores.channels.update(ID, many)).item == ITEM | many


def _deep(levels: int) -> list:
    return [_deep(levels - 1)] if levels else ["deepest"]


EXTREMES = {
    "38 digits": 10**38 - 1,
    "largest": 9.99e125,
    "smallest": -1e-130,
    "sixteen levels": _deep(15),
    "n" * 255: "a long name",
    "size": 1,  # reserved words
    "values": {"names": [[], {}, ""]},
    "no letters": "\x01\t\x7f\u2028\uffff",
    "beyond the basic plane": "🎥",
}


async def test_the_store_keeps_the_extreme_values_of_all_fields(stores):
    """The bounds in `channels.channel` come from the strictest store."""
    fields = changes(Channel(ITEM), EXTREMES, SigningSecrets("x"), 0)
    await stores.channels.add(ITEM)
    assert (await stores.channels.update(ID, fields)).item == ITEM | fields
    await stores.channels.add(ITEM | fields | {"id": "another"})
    assert (await stores.channels.get("another")).item == ITEM | fields | {"id": "another"}


async def test_an_item_as_large_as_a_setting_may_allow_is_kept(stores):
    large = {"note": "x" * 390_000}  # DynamoDB: 400 kB with its names
    await stores.channels.add(ITEM | large)
    assert (await stores.channels.get(ID)).item == ITEM | large


async def test_updates_of_different_fields_at_once_are_all_kept(stores):
    await stores.channels.add(ITEM)
    await asyncio.gather(*(stores.channels.update(ID, {f"field{i}": i}) for i in range(20)))
    assert (await stores.channels.get(ID)).item == ITEM | {f"field{i}": i for i in range(20)}


async def test_a_deleted_channel_is_gone_for_the_next_reader(stores):
    await stores.channels.add(ITEM)
    await stores.channels.delete(ID, NOW)
    with pytest.raises(NoSuchChannel):
        await stores.channels.get(ID)
    with pytest.raises(NoSuchChannel):
        await stores.channels.delete(ID, NOW)
    assert await stores.channels.list() == []


PROTECTED = ITEM | {"playAuth": "sign", "refererAllow": ["example.com"], "retentionDays": 7}


async def test_a_deleted_channel_keeps_its_protection_settings_but_no_secrets(stores):
    await stores.channels.add(PROTECTED | {"relayURL": "rtmp://a.example/app/key"})
    deleted = await stores.channels.delete(ID, NOW)
    assert await stores.channels.get_deleted(ID) == deleted
    assert deleted.item == {
        "id": ID,
        "videoname": ITEM["videoname"],
        "playAuth": "sign",
        "refererAllow": ["example.com"],
        "retentionDays": 7,
        "deletedAt": NOW,
        "media": "keep",
    }
    assert (deleted.id, deleted.deleted_at, deleted.deletes_media) == (ID, NOW, False)
    assert deleted.channel.play_auth == "sign"
    assert await stores.channels.list() == []
    assert list(await stores.channels.list_deleted()) == [deleted]


@pytest.mark.parametrize("value", [None, "Sign", "", 5, ["sign"], {"a": 1}])
async def test_a_deleted_channel_keeps_an_invalid_play_auth_value_unchanged(stores, value):
    await stores.channels.add(ITEM | {"playAuth": value})
    await stores.channels.delete(ID, NOW)
    assert (await stores.channels.get_deleted(ID)).item["playAuth"] == value


async def test_a_deleted_channel_can_be_neither_read_nor_changed_nor_deleted_as_a_channel(stores):
    await stores.channels.add(PROTECTED)
    await stores.channels.delete(ID, NOW)
    for id in (ID, f"deleted/{ID}"):
        with pytest.raises(NoSuchChannel):
            await stores.channels.get(id)
        with pytest.raises(NoSuchChannel):
            await stores.channels.update(id, {"videoname": "x"})
        with pytest.raises(NoSuchChannel):
            await stores.channels.delete(id, NOW)
    assert [d.id for d in await stores.channels.list_deleted()] == [ID]


@pytest.mark.parametrize("id", ["nobody", "", "a/b", "é", "\0", f"deleted/{ID}", "x" * 5000])
async def test_an_id_that_was_never_stored_has_no_deleted_channel(stores, id):
    await stores.channels.add(ITEM)
    with pytest.raises(NoSuchChannel):
        await stores.channels.get_deleted(id)


async def test_a_deleted_channel_in_the_bin_is_kept_whole(stores):
    inputs = [{"name": "main", "kind": "push"}, {"name": "film", "kind": "playlist", "items": ["a.mp4"], "loop": True}]
    item = PROTECTED | {"slug": "stage", "inputs": inputs, "hls_time": 2.5, "relayURL": ["rtmp://a.example/app/key"]}
    await stores.channels.add(item)
    deleted = await stores.channels.delete(ID, NOW, restorable=True)
    with pytest.raises(NoSuchChannel):
        await stores.channels.get(ID)
    for record in (deleted, await stores.channels.get_deleted(ID), *await stores.channels.list_deleted()):
        assert record.restorable is not None and record.restorable.item == item
        assert record.channel.key == "" and "bin" not in record.channel.item
    await stores.channels.add(ITEM | {"id": "another", "slug": "stage"})  # the slug is free meanwhile
    with pytest.raises(SlugTaken):
        await stores.channels.add(item)
    await stores.channels.update("another", {"slug": ""})
    assert (await stores.channels.add(deleted.restorable.item)).item == item
    await stores.channels.put_deleted(deleted.without_bin())
    assert (await stores.channels.get_deleted(ID)).restorable is None


async def test_an_existing_channel_is_not_among_the_deleted_channels(stores):
    await stores.channels.add(ITEM)
    with pytest.raises(NoSuchChannel):
        await stores.channels.get_deleted(ID)
    assert list(await stores.channels.list_deleted()) == []


async def test_an_id_can_be_stored_again_and_deleted_again(stores):
    await stores.channels.add(PROTECTED)
    first = await stores.channels.delete(ID, NOW)
    await stores.channels.add(ITEM | {"playAuth": "none"})
    assert (await stores.channels.get(ID)).play_auth == "none"
    assert await stores.channels.get_deleted(ID) == first
    assert [c.id for c in await stores.channels.list()] == [ID]
    second = await stores.channels.delete(ID, NOW + 1, media=True)
    assert list(await stores.channels.list_deleted()) == [second]
    assert (second.channel.play_auth, second.deletes_media) == ("none", True)


async def test_the_record_of_a_deleted_channel_can_be_replaced_and_removed(stores):
    await stores.channels.add(PROTECTED)
    deleted = (await stores.channels.delete(ID, NOW)).with_media_deletion()
    await stores.channels.put_deleted(deleted)
    assert await stores.channels.get_deleted(ID) == deleted
    assert deleted.deletes_media and deleted.channel.play_auth == "sign"
    for _ in range(2):
        await stores.channels.remove_deleted(ID)
    with pytest.raises(NoSuchChannel):
        await stores.channels.get_deleted(ID)


async def test_removing_a_deleted_channel_keeps_a_new_channel_with_the_same_id(stores):
    await stores.channels.add(ITEM)
    await stores.channels.delete(ID, NOW)
    await stores.channels.add(ITEM)
    await stores.channels.remove_deleted(ID)
    assert (await stores.channels.get(ID)).item == ITEM


async def test_a_deleted_channel_keeps_a_change_made_during_its_deletion(stores):
    """If the update succeeds before the deletion, the deleted channel keeps the updated protection."""
    for n in range(10):
        id = f"channel-{n}"
        await stores.channels.add(ITEM | {"id": id, "playAuth": "none"})
        changed, deleted = await asyncio.gather(
            stores.channels.update(id, {"playAuth": "sign"}), stores.channels.delete(id, NOW), return_exceptions=True
        )
        auth = "none" if isinstance(changed, NoSuchChannel) else "sign"
        assert deleted == await stores.channels.get_deleted(id)
        assert deleted.channel.play_auth == auth


async def test_only_one_of_several_simultaneous_deletions_succeeds(stores):
    await stores.channels.add(ITEM)
    results = await asyncio.gather(*(stores.channels.delete(ID, NOW) for _ in range(5)), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["DeletedChannel", *["NoSuchChannel"] * 4]


async def test_the_list_is_complete_if_it_takes_several_pages(stores):
    items = [ITEM | {"id": f"channel-{n}", "note": "x" * 60_000} for n in range(40)]  # a page of DynamoDB holds 1 MB
    for item in items:
        await stores.channels.add(item)
    assert sorted(c.id for c in await stores.channels.list()) == sorted(i["id"] for i in items)


async def test_the_check_of_a_reachable_store_succeeds(stores):
    await stores.channels.check()


async def test_domains_are_kept_changed_and_removed(stores):
    assert await stores.domains.get_domains() == PublicDomains()
    for domains in (
        PublicDomains("push.example.com", "https://cdn.example.com"),
        PublicDomains("push.example.com", ""),
        PublicDomains(),
    ):
        await stores.domains.set_domains(domains)
        assert await stores.domains.get_domains() == domains


def _slugged(slug: str, **fields: object) -> dict[str, object]:
    return {"id": str(uuid.uuid4()), "slug": slug, **fields}


async def test_of_many_channels_that_want_a_slug_at_once_one_gets_it(stores):
    store = stores.channels
    items = [_slugged("stage") for _ in range(8)]
    added = await asyncio.gather(*(store.add(item) for item in items), return_exceptions=True)
    assert sum(isinstance(answer, Channel) for answer in added) == 1
    assert sum(isinstance(answer, SlugTaken | StoreUnavailable) for answer in added) == 7
    others = [await store.add({"id": str(uuid.uuid4())}) for _ in range(8)]
    changed = await asyncio.gather(
        *(store.update(channel.id, {"slug": "hall"}) for channel in others), return_exceptions=True
    )
    assert sum(isinstance(answer, Channel) for answer in changed) == 1
    slugs = sorted(channel.slug for channel in await store.list() if channel.slug)
    assert slugs == ["hall", "stage"]


async def test_a_slug_is_free_after_a_change_or_a_deletion_of_its_channel(stores):
    store = stores.channels
    first, second = await store.add(_slugged("stage")), await store.add({"id": str(uuid.uuid4())})
    with pytest.raises(SlugTaken):
        await store.update(second.id, {"slug": "stage", "videoname": "x"})
    assert "videoname" not in (await store.get(second.id)).item
    await store.update(first.id, {"slug": "hall"})
    assert (await store.update(second.id, {"slug": "stage"})).slug == "stage"
    with pytest.raises(SlugTaken):
        await store.update(first.id, {"slug": "stage"})
    await store.delete(second.id, 1.0)
    assert (await store.update(first.id, {"slug": "stage"})).slug == "stage"
    assert (await store.update(first.id, {"slug": ""})).slug == ""
    assert (await store.add(_slugged("stage"))).slug == "stage"


async def test_a_slug_cannot_be_the_id_of_a_channel(stores):
    store = stores.channels
    await store.add({"id": "lobby"})
    with pytest.raises(SlugTaken):
        await store.add(_slugged("lobby"))
