"""Creates, changes and deletes channels, with all that follows, in one order."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import Any

from gateway.channels.channel import Channel
from gateway.channels.channel_events import channel_changed, channel_created, channel_deleted, settings_changed
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.inputs import FIELD as INPUTS
from gateway.channels.inputs import InputSpec, stored_inputs
from gateway.channels.slate_pictures import check_pictures
from gateway.channels.slugs import SLUG
from gateway.channels.stores import ChannelStore, find_channel
from gateway.ports.errors import NoSuchChannel, SlugTaken, StoreUnavailable, UnreadableRow
from gateway.ports.events import Event
from gateway.ports.media_keys import is_poster
from gateway.ports.stores import ObjectStore


async def _tell_nobody(id: str) -> None:
    """Tells no node."""


@dataclass(frozen=True, slots=True)
class ChangeEffects:
    """What follows a stored change in this process. A command has only `record`; running gateways read its change.

    record: stores an event. forget: removes a channel from the caches.
    apply: gives a changed channel to its live streams; None: it is deleted, and they end.
    tell_nodes: lets the other nodes do both.
    """

    record: Callable[[Event], Awaitable[None]]
    _: KW_ONLY
    forget: Callable[[str], None] = lambda id: None
    apply: Callable[[str, Channel | None], None] = lambda id, channel: None
    tell_nodes: Callable[[str], Awaitable[None]] = _tell_nobody


@dataclass(frozen=True, slots=True)
class ChannelChanges:
    """The only way to change stored channels: the store, caches, live streams, other nodes, the event.

    objects: has the posters, and the pictures of slates. Methods raise the errors of `store`.
    author: who asks for the change, for the event: `by` and, over the network, `peer`.
    bin_hours: that a deleted channel can be restored; 0: not at all.
    """

    store: ChannelStore
    objects: ObjectStore
    effects: ChangeEffects
    clock: Callable[[], float] = time.time
    bin_hours: int = 0

    async def create(
        self, item: Mapping[str, Any], author: Mapping[str, str], *, known: Sequence[InputSpec] = ()
    ) -> Channel:
        """Stores a new channel, which may have inputs that are always on air.

        known: stored inputs, such as those of a template, which are not checked again.
        Raises InvalidField for a slate whose picture is text.
        """
        await check_pictures(self.objects, stored_inputs(item), known)
        channel = await self.store.add(item)
        event = channel_created(channel, self.clock(), author)
        await self.follow(channel.id, channel, event, tells=bool(channel.slug))  # viewers may know the slug already
        return channel

    async def update(self, id: str, changed: Mapping[str, Any], author: Mapping[str, str]) -> Channel:
        """Stores changed fields, and returns the channel. The file of a replaced poster is deleted.

        Raises InvalidField for a new slate whose picture is text.
        """
        before = await self.store.get(id) if {"poster", INPUTS} & set(changed) else None
        if before is not None and INPUTS in changed:
            await check_pictures(self.objects, stored_inputs(changed), stored_inputs(before.item))
        poster = before.poster if before is not None else ""
        channel = await self.store.update(id, changed)
        await self.follow(id, channel, channel_changed(channel, self.clock(), author, changed))
        if poster not in ("", channel.poster):
            with suppress(StoreUnavailable):  # then it stays until the channel is deleted
                await self.objects.delete(poster)
        return channel

    async def delete(self, id: str, author: Mapping[str, str], *, media: bool, final: bool = False) -> DeletedChannel:
        """Deletes a channel, also if its row cannot be read. It goes into the bin, or is deleted with its posters.

        media: whether its media are to be deleted, which the caller begins. final: it does not go into the bin.
        """
        now = self.clock()
        deleted = await self.store.delete(id, now, media=media, restorable=self.bin_hours > 0 and not final)
        await self.follow(id, None, channel_deleted(id, now, author, "delete" if media else "keep"))
        if deleted.restorable is None:
            await self._delete_posters(id)
        return deleted

    async def _delete_posters(self, id: str) -> None:
        with suppress(StoreUnavailable):  # then they stay, like kept media
            stored = self.objects.list(f"{id}/poster/")  # because a row that cannot be read does not name its poster
            await self.objects.delete_many([one.key async for one in stored if is_poster(one.key)])

    async def bin(self) -> list[DeletedChannel]:
        """Returns the deleted channels that can be restored."""
        return [deleted for deleted in await self.store.list_deleted() if deleted.restorable is not None]

    async def in_bin(self, id: str) -> DeletedChannel:
        """Returns a deleted channel that can be restored. Raises NoSuchChannel."""
        deleted = await self.store.get_deleted(id)
        if deleted.restorable is None:
            raise NoSuchChannel(id)
        return deleted

    async def restore(self, id: str, author: Mapping[str, str]) -> Channel:
        """Stores a channel of the bin again, with its key. If its slug is in use by now, the channel has none.

        Raises NoSuchChannel; ChannelExists if there is a channel with its id again.
        """
        deleted = await self.in_bin(id)
        assert deleted.restorable is not None, "it is in the bin"
        item = deleted.restorable.item
        try:
            channel = await self.store.add(item)
        except SlugTaken:
            channel = await self.store.add({name: value for name, value in item.items() if name != SLUG})
        # The channel protects its media now. Those that were to be deleted with it are deleted all the same.
        if deleted.deletes_media:
            await self.store.put_deleted(deleted.without_bin())
        else:
            await self.store.remove_deleted(id)
        lost = [SLUG] if channel.slug != deleted.restorable.slug else []
        event = settings_changed(
            "channel", "restored", self.clock(), author, name=channel.name, fields=lost, channel=id
        )
        await self.follow(id, channel, event)
        return channel

    async def delete_for_good(self, deleted: DeletedChannel) -> None:
        """Deletes a channel of the bin with its posters. The record stays, which protects its media."""
        await self.store.put_deleted(deleted.without_bin())
        if await find_channel(self.store, deleted.id) is None:  # else the posters are those of a new channel
            await self._delete_posters(deleted.id)

    async def delete_old(self) -> None:
        """Deletes the channels for good that are in the bin for longer than `bin_hours`."""
        oldest = self.clock() - self.bin_hours * 3600
        for deleted in await self.bin():
            if deleted.deleted_at < oldest:
                await self.delete_for_good(deleted)

    async def delete_media(self, deleted: DeletedChannel) -> None:
        """Stores the record of a deleted channel whose media are to be deleted too."""
        await self.store.put_deleted(deleted)
        await self.follow(deleted.id, None)

    async def protect_media(self, channel: Channel) -> None:
        """Stores the record that protects the media of a channel whose row another program has removed."""
        try:
            await self.store.get_deleted(channel.id)
        except (NoSuchChannel, UnreadableRow):
            await self.store.put_deleted(DeletedChannel.of(channel.id, channel, self.clock(), media=False))

    async def follow(self, id: str, channel: Channel | None, event: Event | None = None, *, tells: bool = True) -> None:
        """Does what follows a stored change. channel: None if it is deleted. tells: whether other nodes must know."""
        self.effects.forget(id)
        self.effects.apply(id, channel)
        if tells:
            await self.effects.tell_nodes(id)
        if event is not None:
            await self.effects.record(event)

    async def follow_other_node(self, id: str, held: bool) -> Channel | None:
        """Does what follows a change that another node has stored. It has told the others, and recorded the event.

        held: whether this process has streams of the channel. Only then it is read from the store, and returned.
        """
        self.effects.forget(id)
        if not held:
            return None
        channel = await find_channel(self.store, id)
        self.effects.apply(id, channel)
        return channel
