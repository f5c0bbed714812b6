"""What operators say of a recorded session: its title, and whether viewers find it. Stored beside its playlist."""

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.lib.records import read_record
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, StoreUnavailable
from gateway.ports.stores import ObjectStore
from gateway.vod.temporary_file import temporary_file

log = structlog.get_logger(__name__)

_MAX_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The record of a session. title: "": that of the channel. hidden: viewers do not find it, and its page is 404."""

    title: str = ""
    hidden: bool = False


NO_RECORD: Final = SessionRecord()


async def read_session(objects: ObjectStore, playlist: str) -> SessionRecord:
    """Returns the record of the session with this playlist. playlist: its key. Raises StoreUnavailable.

    A session whose record is damaged is hidden, because it may have been.
    """
    key = media_keys.session_record_key(playlist)
    try:
        text = b"".join([chunk async for chunk in objects.read(key, 0, _MAX_BYTES)])
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("expected an object")
        return read_record(SessionRecord, values, defaults=True)
    except NoSuchObject:
        return NO_RECORD
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        log.warning("the record of a session is damaged", object=key, reason=str(error))
        return SessionRecord(hidden=True)


async def store_session(objects: ObjectStore, playlist: str, record: SessionRecord, folder: Path) -> None:
    """Stores a record. folder: for the file until it is stored. Raises StoreUnavailable."""
    text = json.dumps(asdict(record), ensure_ascii=False).encode()
    try:
        async with temporary_file(folder, ".json") as file:
            await asyncio.to_thread(file.write_bytes, text)
            await objects.put(media_keys.session_record_key(playlist), file)
    except OSError as error:
        raise StoreUnavailable(f"the record cannot be written: {error.strerror or error}") from None
