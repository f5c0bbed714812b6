"""The one way to change stored channels: what follows a change, and in which order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.adapters.local.stores import SqliteChannels
from gateway.channels.channel import Channel
from gateway.channels.channel_changes import ChangeEffects, ChannelChanges
from gateway.channels.inputs import stored_inputs
from gateway.ports.errors import ChannelExists, InvalidField, NoSuchChannel, NoSuchObject, StoreUnavailable
from gateway.ports.events import Event
from gateway.ports.stores import Object

AUTHOR = {"by": "somebody"}
POSTER = "c1/poster/0123456789abcdef.jpg"
ITEM = {"id": "c1", "videoname": "stage", "poster": POSTER}


class Objects:
    """An object store that remembers deletions. away: it does not answer."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.away = False

    async def delete(self, key: str) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.deleted.append(key)

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        for key in (POSTER, "c1/poster/film.mp4", "c2/poster/0123456789abcdef.jpg"):
            if key.startswith(prefix):
                yield Object(key, 5, 1.0)

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self.delete(key)

    async def read(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        raise NoSuchObject(key)
        yield b""


class Followed:
    """Writes down what follows a change, in order."""

    def __init__(self, store: SqliteChannels) -> None:
        self.store = store
        self.steps: list[Any] = []
        self.events: list[Event] = []
        self.objects = Objects()
        effects = ChangeEffects(
            self._record, forget=lambda id: self._note("caches", id), apply=self._apply, tell_nodes=self._tell
        )
        self.changes = ChannelChanges(store, cast(Any, self.objects), effects, lambda: 1_800_000_000.0)

    def _note(self, *step: Any) -> None:
        self.steps.append(step)

    def _apply(self, id: str, channel: Channel | None) -> None:
        self._note("streams", id, channel.name if channel is not None else None)

    async def _tell(self, id: str) -> None:
        self._note("nodes", id)

    async def _record(self, event: Event) -> None:
        self._note("event", str(event.type))
        self.events.append(event)


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[Followed]:
    async with SqliteChannels(tmp_path / "channels.db") as store:
        yield Followed(store)


async def test_a_new_channel_reaches_caches_and_inputs_and_has_an_event(followed: Followed) -> None:
    assert await followed.changes.create(ITEM, AUTHOR) == await followed.store.get("c1")
    assert followed.steps == [("caches", "c1"), ("streams", "c1", "stage"), ("event", "channel.created")]
    assert followed.events[0].data == {"name": "stage", "by": "somebody"}


async def test_other_nodes_are_told_of_a_new_slug_because_viewers_may_know_it(followed: Followed) -> None:
    await followed.changes.create({**ITEM, "slug": "main-stage"}, AUTHOR)
    assert ("nodes", "c1") in followed.steps


async def test_nothing_follows_a_change_that_is_not_stored(followed: Followed) -> None:
    await followed.store.add(ITEM)
    with pytest.raises(ChannelExists):
        await followed.changes.create(ITEM, AUTHOR)
    with pytest.raises(NoSuchChannel):
        await followed.changes.update("c2", {"videoname": "x"}, AUTHOR)
    with pytest.raises(NoSuchChannel):
        await followed.changes.delete("c2", AUTHOR, media=True)
    assert followed.steps == []


async def test_a_slate_whose_picture_is_no_picture_is_not_stored(followed: Followed) -> None:
    slate = {"inputs": [{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate", "picture": "words"}]}
    with pytest.raises(InvalidField, match="picture"):
        await followed.changes.create({**ITEM, **slate}, AUTHOR)
    await followed.store.add(ITEM)
    with pytest.raises(InvalidField, match="picture"):
        await followed.changes.update("c1", slate, AUTHOR)
    assert followed.steps == [] and "inputs" not in (await followed.store.get("c1")).item


async def test_the_slate_of_a_template_is_neither_read_nor_refused_again(followed: Followed) -> None:
    inputs = [{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate", "picture": "words"}]
    item = {**ITEM, "inputs": inputs}
    assert (await followed.changes.create(item, AUTHOR, known=stored_inputs(item))).item["inputs"] == inputs


async def test_a_change_reaches_caches_streams_nodes_and_the_log_in_this_order(followed: Followed) -> None:
    await followed.store.add(ITEM)
    changed = await followed.changes.update("c1", {"videoname": "hall", "isHls": True}, AUTHOR)
    assert changed == await followed.store.get("c1")
    assert followed.steps == [
        ("caches", "c1"), ("streams", "c1", "hall"), ("nodes", "c1"), ("event", "channel.changed"),
    ]  # fmt: skip
    assert followed.events[0].data == {"name": "hall", "fields": ["isHls", "videoname"], "by": "somebody"}


async def test_the_file_of_a_replaced_poster_is_deleted(followed: Followed) -> None:
    await followed.store.add(ITEM)
    await followed.changes.update("c1", {"poster": ITEM["poster"], "videoname": "hall"}, AUTHOR)
    assert followed.objects.deleted == []
    await followed.changes.update("c1", {"poster": ""}, AUTHOR)
    assert followed.objects.deleted == [ITEM["poster"]]


@pytest.mark.parametrize("media", [False, True])
@pytest.mark.parametrize("row", [json.dumps(ITEM), "nonsense"], ids=["readable", "damaged"])
async def test_a_deletion_ends_streams_and_deletes_the_poster(followed: Followed, media: bool, row: str) -> None:
    await followed.store.write("INSERT INTO channels VALUES ('c1', ?)", row)
    deleted = await followed.changes.delete("c1", AUTHOR, media=media)
    assert deleted == await followed.store.get_deleted("c1") and deleted.deletes_media is media
    assert followed.steps == [("caches", "c1"), ("streams", "c1", None), ("nodes", "c1"), ("event", "channel.deleted")]
    assert followed.events[0].data == {"media": "delete" if media else "keep", "by": "somebody"}
    assert followed.objects.deleted == [ITEM["poster"]]


async def test_a_poster_stays_while_the_object_store_does_not_answer(followed: Followed) -> None:
    await followed.store.add(ITEM)
    followed.objects.away = True
    await followed.changes.delete("c1", AUTHOR, media=False)
    assert len(followed.events) == 1


async def test_the_deletion_of_kept_media_reaches_caches_and_nodes(followed: Followed) -> None:
    await followed.store.add(ITEM)
    deleted = await followed.store.delete("c1", 1.0)
    await followed.changes.delete_media(deleted.with_media_deletion())
    assert (await followed.store.get_deleted("c1")).deletes_media
    assert ("caches", "c1") in followed.steps and ("nodes", "c1") in followed.steps and followed.events == []


@pytest.mark.parametrize("stored", [True, False])
async def test_a_change_of_another_node_reaches_only_this_process(followed: Followed, stored: bool) -> None:
    if stored:
        await followed.store.add(ITEM)
    found = await followed.changes.follow_other_node("c1", True)
    assert (found is not None) is stored
    assert followed.steps == [("caches", "c1"), ("streams", "c1", "stage" if stored else None)]


async def test_a_change_of_another_node_is_not_read_for_a_channel_without_a_stream_here(followed: Followed) -> None:
    await followed.store.add(ITEM)
    assert await followed.changes.follow_other_node("c1", False) is None
    assert followed.steps == [("caches", "c1")]


async def test_media_of_a_row_that_another_program_removed_keep_its_protection(followed: Followed) -> None:
    await followed.changes.protect_media(Channel({**ITEM, "playAuth": "sign"}))
    kept = await followed.store.get_deleted("c1")
    assert (kept.channel.play_auth, kept.deletes_media) == ("sign", False)


async def test_a_record_of_a_deletion_that_cannot_be_read_is_replaced(followed: Followed) -> None:
    await followed.store.write("INSERT INTO channels VALUES ('deleted/c1', 'nonsense')")
    await followed.changes.protect_media(Channel({**ITEM, "playAuth": "sign"}))
    assert (await followed.store.get_deleted("c1")).channel.play_auth == "sign"


async def test_the_record_of_a_deletion_is_not_replaced(followed: Followed) -> None:
    await followed.store.add(ITEM)
    deleted = await followed.store.delete("c1", 1.0, media=True)
    await followed.changes.protect_media(Channel(ITEM))
    assert await followed.store.get_deleted("c1") == deleted


async def test_a_channel_from_the_bin_has_its_key_settings_and_poster_again(followed: Followed) -> None:
    item = {**ITEM, "key": "1-a", "slug": "stage", "inputs": [{"name": "spare", "kind": "backup"}]}
    changes = replace(followed.changes, bin_hours=24)
    await followed.store.add(item)
    await changes.delete("c1", AUTHOR, media=False)
    assert followed.objects.deleted == [] and [one.id for one in await changes.bin()] == ["c1"]
    followed.steps.clear()
    assert (await changes.restore("c1", AUTHOR)).item == item == (await followed.store.get("c1")).item
    assert followed.steps == [
        ("caches", "c1"), ("streams", "c1", "stage"), ("nodes", "c1"), ("event", "settings.changed"),
    ]  # fmt: skip
    assert (followed.events[-1].channel, followed.events[-1].data["change"]) == ("c1", "restored")
    assert await changes.bin() == [] == list(await followed.store.list_deleted())
    with pytest.raises(NoSuchChannel):
        await changes.restore("c1", AUTHOR)


async def test_a_restored_channel_has_no_slug_that_another_channel_has_now(followed: Followed) -> None:
    changes = replace(followed.changes, bin_hours=24)
    await followed.store.add({**ITEM, "slug": "stage"})
    await changes.delete("c1", AUTHOR, media=True)
    await followed.store.add({"id": "c2", "slug": "stage"})
    restored = await changes.restore("c1", AUTHOR)
    assert (restored.slug, restored.name, followed.events[-1].data["fields"]) == ("", "stage", ["slug"])
    assert (await followed.store.get_deleted("c1")).deletes_media  # those of before are deleted all the same


async def test_a_channel_is_not_restored_over_a_new_one_with_its_id(followed: Followed) -> None:
    changes = replace(followed.changes, bin_hours=24)
    await followed.store.add(ITEM)
    await changes.delete("c1", AUTHOR, media=False)
    await followed.store.add({"id": "c1", "videoname": "new"})
    with pytest.raises(ChannelExists):
        await changes.restore("c1", AUTHOR)
    assert (await followed.store.get("c1")).name == "new"
    await changes.delete_for_good(await changes.in_bin("c1"))
    assert followed.objects.deleted == []  # the posters are those of the new channel


@pytest.mark.parametrize(("hours", "final"), [(0, False), (24, True)])
async def test_a_final_deletion_passes_the_bin_by(followed: Followed, hours: int, final: bool) -> None:
    changes = replace(followed.changes, bin_hours=hours)
    await followed.store.add(ITEM)
    await changes.delete("c1", AUTHOR, media=False, final=final)
    assert await changes.bin() == [] and followed.objects.deleted == [ITEM["poster"]]


async def test_the_bin_is_emptied_after_its_hours_and_the_media_stay_protected(followed: Followed) -> None:
    changes = replace(followed.changes, bin_hours=24)
    await followed.store.add({**ITEM, "playAuth": "sign", "key": "1-secret"})
    await changes.delete("c1", AUTHOR, media=False)
    await replace(changes, clock=lambda: changes.clock() + 24 * 3600 - 1).delete_old()
    assert len(await changes.bin()) == 1
    await replace(changes, clock=lambda: changes.clock() + 24 * 3600 + 1).delete_old()
    record = await followed.store.get_deleted("c1")
    assert await changes.bin() == [] and followed.objects.deleted == [ITEM["poster"]]
    assert record.channel.play_auth == "sign" and "secret" not in str(record.item)


async def test_a_channel_that_is_too_large_for_the_bin_is_deleted_all_the_same(followed: Followed) -> None:
    changes = replace(followed.changes, bin_hours=24)
    await followed.store.add({**ITEM, "notes": "x" * 300_000})
    assert (await changes.delete("c1", AUTHOR, media=False)).restorable is None
