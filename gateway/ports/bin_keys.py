"""The object keys of the bin: the files of deleted recordings and films, which can still be restored."""

from typing import Final

_BIN: Final = "millrace-bin/"
# One small JSON document for each deletion, and the moved files of that deletion.
ENTRIES: Final = f"{_BIN}entries/"
_FILES: Final = f"{_BIN}files/"


def in_bin(key: str) -> bool:
    """Whether this is the key of an object in the bin. Such objects are never served, listed or converted."""
    return key.startswith(_BIN)


def entry_key(id: str) -> str:
    """Returns the key of the entry of one deletion."""
    return f"{ENTRIES}{id}.json"


def entry_id(key: str) -> str:
    """Returns the id in the key of an entry."""
    return key.removeprefix(ENTRIES).removesuffix(".json")


def files_prefix(id: str) -> str:
    """Returns the prefix of the moved files of one deletion. The original key follows it."""
    return f"{_FILES}{id}/"
