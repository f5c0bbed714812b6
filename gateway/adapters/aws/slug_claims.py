"""Makes the slugs of channels unique in DynamoDB: the item `slug/<slug>` names the channel that has the slug.

A claim is written in the transaction that writes the channel. It counts only while its channel has this slug, so claims
that a crash or another program left behind stop nobody.
"""

from typing import Any, Final

from gateway.adapters.aws.dynamo_table import DynamoTable
from gateway.channels.channel import ID
from gateway.channels.slugs import SLUG
from gateway.ports.errors import SlugTaken

_PREFIX: Final = "slug/"  # a channel id has no slash
_CHANNEL: Final = "channel"

# Writes of a transaction.
Writes = list[dict[str, Any]]


class SlugClaims:
    """The claims in the table of channels."""

    def __init__(self, table: DynamoTable) -> None:
        self._table = table

    async def change(self, id: str, slug: str, old: str = "") -> Writes:
        """Returns the writes that give a channel a slug and take its old one; "": none. Raises SlugTaken."""
        writes = await self._release(id, old) if old and old != slug else []
        return [*writes, *await self._claim(id, slug)] if slug else writes

    async def _claim(self, id: str, slug: str) -> Writes:
        if id != slug and await self._table.get(_key(slug)) is not None:
            raise SlugTaken(slug)
        item = await self._table.get(_claim_key(slug))
        holder = item[_CHANNEL]["S"] if item is not None else id
        put = self._table.request(
            {"id": id, "holder": holder},
            Item=_claim_key(slug) | {_CHANNEL: {"S": id}},
            ConditionExpression="attribute_not_exists(id) OR #channel IN (:id, :holder)",
        )
        if holder == id:
            return [{"Put": put}]
        stored = await self._table.get(_key(holder))
        if stored is not None and stored.get(SLUG) == {"S": slug}:
            raise SlugTaken(slug)
        check = self._table.request(
            {"slug": slug}, Key=_key(holder), ConditionExpression="attribute_not_exists(#slug) OR #slug <> :slug"
        )
        return [{"Put": put}, {"ConditionCheck": check}]

    async def _release(self, id: str, slug: str) -> Writes:
        item = await self._table.get(_claim_key(slug))
        if item is None or item[_CHANNEL]["S"] != id:
            return []
        key = _claim_key(slug)
        return [{"Delete": self._table.request({"id": id}, Key=key, ConditionExpression="#channel = :id")}]


def _claim_key(slug: str) -> dict[str, Any]:
    return {ID: {"S": _PREFIX + slug}}


def _key(id: str) -> dict[str, Any]:
    return {ID: {"S": id}}
