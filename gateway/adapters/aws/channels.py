"""Channels in DynamoDB, in the old system's table: hash key `id`, unchanged names and values.

The item `slug/<slug>` names the channel that has the slug, so that slugs are unique. Such a claim is written in the
transaction that writes the channel. It counts only while its channel has this slug, so claims that a crash or another
program left behind stop nobody.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from gateway.adapters.aws.attributes import from_item, to_item
from gateway.adapters.aws.dynamo_table import ConditionFailed, DynamoStore
from gateway.channels.channel import ID, KEY, Channel
from gateway.channels.channel_list import ChannelPage, ChannelQuery, page_of
from gateway.channels.deleted_channel import RECORD_FIELDS, DeletedChannel
from gateway.channels.names import is_channel_id
from gateway.channels.slugs import SLUG
from gateway.ports.errors import ChannelExists, NoSuchChannel, SlugTaken, StoreUnavailable
from gateway.ports.stored_rows import read_row, read_rows, read_rows_by_key

# Prefix of the ids of deleted channels. A channel id has no slash, so the old system can list these items but not use
# them. They are in the table of channels, because edges may not read another table.
_DELETED: Final = "deleted/"
_CLAIM: Final = "slug/"  # prefix of the keys of claims
_CHANNEL: Final = "channel"
_MAX_TRIES: Final = 10

# Writes of a transaction.
Writes = list[dict[str, Any]]


class DynamoChannels(DynamoStore):
    """A ChannelStore in one table. Reads are consistent, so the next push to a deleted channel is refused."""

    KEY = (ID,)

    async def get(self, id: str) -> Channel:
        return read_row("channel", id, _channel, await self._item(id))

    async def get_many(self, ids: Collection[str]) -> Mapping[str, Channel | None]:
        async with self._table.client() as client:
            items = await self._table.get_many(client, [_key(id) for id in ids], ConsistentRead=True)
        return read_rows_by_key("channel", _channel, ((item[ID]["S"], item) for item in items))

    async def list(self) -> list[Channel]:
        items = ((item[ID]["S"], item) for item in await self._table.read_all() if "/" not in item[ID]["S"])
        return read_rows("channel", _channel, items)

    async def find(self, query: ChannelQuery) -> ChannelPage:
        return page_of(await self.list(), query)

    async def add(self, item: Mapping[str, Any]) -> Channel:
        stored = to_item(item)
        if slug := _channel(stored).slug:
            return await self._add_with_slug(item[ID], stored, slug)
        if not await self._table.write("put_item", Item=stored, ConditionExpression="attribute_not_exists(id)"):
            raise ChannelExists(item[ID])
        return _channel(stored)

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        fields = [(name, value) for name, value in changes.items() if name != ID]
        if not fields:
            return await self.get(id)
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        # A client may choose any names of fields, so they are numbered.
        values = {f"v{i}": value for i, (_, value) in enumerate(fields)}
        request = {
            "Key": _key(id),
            "UpdateExpression": "SET " + ", ".join(f"#n{i} = :v{i}" for i in range(len(fields))),
            "ExpressionAttributeNames": {f"#n{i}": name for i, (name, _) in enumerate(fields)},
            "ConditionExpression": "attribute_exists(id)",
        }
        if SLUG in changes:
            return await self._update_with_slug(id, values, request, Channel({ID: id, **changes}).slug)
        try:
            answer = await self._table.call("update_item", values, **request, ReturnValues="ALL_NEW")
        except ConditionFailed:
            raise NoSuchChannel(id) from None
        return _channel(answer["Attributes"])

    async def delete(self, id: str, now: float, *, media: bool = False, restorable: bool = False) -> DeletedChannel:
        # If the key, or a field that protects the media, changes before the write, the item is read again.
        for _ in range(_MAX_TRIES):
            stored = await self._item(id)
            channel = read_rows_by_key("channel", _channel, [(id, stored)])[id]
            deleted = DeletedChannel.of(id, channel, now, media=media, restorable=restorable)
            claims = await self._change_claims(id, "", channel.slug if channel is not None else "")
            if await self._replace(id, stored, deleted, claims):
                return deleted
        raise self._busy(id)

    async def _add_with_slug(self, id: str, stored: dict[str, Any], slug: str) -> Channel:
        for _ in range(_MAX_TRIES):
            claims = await self._change_claims(id, slug)
            put = self._table.request(Item=stored, ConditionExpression="attribute_not_exists(id)")
            if await self._table.write_all({"Put": put}, *claims):
                return _channel(stored)
            if await self._table.get(_key(id)) is not None:
                raise ChannelExists(id)
        raise self._busy(id)

    async def _update_with_slug(self, id: str, values: dict[str, Any], request: dict[str, Any], slug: str) -> Channel:
        """Updates a channel and the claim of its slug in one transaction."""
        for _ in range(_MAX_TRIES):
            old = _channel(await self._item(id)).slug
            claims = await self._change_claims(id, slug, old)
            condition = "#slug = :old" if old else "attribute_exists(id)"
            update = self._table.request(values | ({"old": old} if old else {}), **request)
            update["ConditionExpression"] = condition
            update["ExpressionAttributeNames"] |= {"#slug": SLUG} if old else {}
            if await self._table.write_all({"Update": update}, *claims):
                return await self.get(id)
        raise self._busy(id)

    def _busy(self, id: str) -> StoreUnavailable:
        return StoreUnavailable(f"dynamodb ({self._table.label}): the channel {id} changes too often")

    async def get_deleted(self, id: str) -> DeletedChannel:
        return read_row("deleted channel", id, _deleted, await self._item(id, _DELETED))

    async def list_deleted(self) -> Sequence[DeletedChannel]:
        items = ((item[ID]["S"], item) for item in await self._table.read_all() if item[ID]["S"].startswith(_DELETED))
        return read_rows("deleted channel", _deleted, items)

    async def put_deleted(self, deleted: DeletedChannel) -> None:
        await self._table.call("put_item", Item=_deleted_item(deleted))

    async def remove_deleted(self, id: str) -> None:
        await self._table.call("delete_item", Key=_key(_DELETED + id))

    async def _item(self, id: str, prefix: str = "") -> dict[str, Any]:
        item = await self._table.get(_key(prefix + id)) if is_channel_id(id) else None
        if item is None:
            raise NoSuchChannel(id)
        return item

    async def _replace(self, id: str, stored: Mapping[str, Any], deleted: DeletedChannel, claims: Writes) -> bool:
        """Replaces a channel with the deleted record in one transaction.

        Returns False if the channel was changed since it was read.
        """
        names = (*RECORD_FIELDS, KEY)
        kept = {f":{name}": stored[name] for name in names if name in stored}
        terms = [f"#{name} = :{name}" if name in stored else f"attribute_not_exists(#{name})" for name in names]
        removal = self._table.request(Key=_key(id), ConditionExpression=" AND ".join(("attribute_exists(id)", *terms)))
        if kept:
            removal["ExpressionAttributeValues"] = kept
        put = self._table.request(Item=_deleted_item(deleted))
        return await self._table.write_all({"Put": put}, {"Delete": removal}, *claims)

    # ---- claims of slugs ----

    async def _change_claims(self, id: str, slug: str, old: str = "") -> Writes:
        """Returns the writes that give a channel a slug and take its old one; "": none. Raises SlugTaken."""
        writes = await self._release(id, old) if old and old != slug else []
        return [*writes, *await self._claim(id, slug)] if slug else writes

    async def _claim(self, id: str, slug: str) -> Writes:
        if id != slug and await self._table.get(_key(slug)) is not None:
            raise SlugTaken(slug)
        item = await self._table.get(_key(_CLAIM + slug))
        holder = _holder(item) if item is not None else id
        put = self._table.request(
            {"id": id, "holder": holder, "text": "S"},
            Item=_key(_CLAIM + slug) | {_CHANNEL: {"S": id}},
            ConditionExpression=(
                "attribute_not_exists(id) OR #channel IN (:id, :holder) OR NOT attribute_type(#channel, :text)"
            ),
        )
        if holder in (id, ""):
            return [{"Put": put}]
        stored = await self._table.get(_key(holder))
        if stored is not None and stored.get(SLUG) == {"S": slug}:
            raise SlugTaken(slug)
        check = self._table.request(
            {"slug": slug}, Key=_key(holder), ConditionExpression="attribute_not_exists(#slug) OR #slug <> :slug"
        )
        return [{"Put": put}, {"ConditionCheck": check}]

    async def _release(self, id: str, slug: str) -> Writes:
        item = await self._table.get(_key(_CLAIM + slug))
        if item is None or _holder(item) != id:
            return []
        key = _key(_CLAIM + slug)
        return [{"Delete": self._table.request({"id": id}, Key=key, ConditionExpression="#channel = :id")}]


def _key(id: str) -> dict[str, Any]:
    return {ID: {"S": id}}


def _holder(claim: Mapping[str, Any]) -> str:
    """Returns the id of the channel that has a slug; "" if the claim is damaged. Then another may take it."""
    id: str = claim.get(_CHANNEL, {}).get("S", "")
    return id


def _channel(item: Mapping[str, Any]) -> Channel:
    return Channel(from_item(item))


def _deleted(item: Mapping[str, Any]) -> DeletedChannel:
    fields = from_item(item)
    return DeletedChannel({**fields, ID: fields[ID].removeprefix(_DELETED)})


def _deleted_item(deleted: DeletedChannel) -> dict[str, Any]:
    return to_item(deleted.item) | _key(_DELETED + deleted.id)
