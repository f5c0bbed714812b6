"""Refuses slates whose picture is text: a wrong key, or a file that is neither a picture nor a film."""

import codecs
from collections.abc import Sequence
from typing import Final

from gateway.channels.inputs import InputSpec
from gateway.channels.media_types import CONTENT_TYPES, PICTURE_TYPES
from gateway.channels.names import is_object_key
from gateway.ports.errors import InvalidField, NoSuchObject
from gateway.ports.stores import ObjectStore

_FIELD: Final = "picture"
_SUFFIXES: Final = {*CONTENT_TYPES, *PICTURE_TYPES}
_HEAD: Final = 512  # bytes that are read from the beginning of a file
_SPACES: Final = "\t\n\f\r"


async def check_pictures(objects: ObjectStore, specs: Sequence[InputSpec], before: Sequence[InputSpec] = ()) -> None:
    """Checks the pictures of new slates. before: the stored inputs, which are not checked again.

    Raises InvalidField for a picture that is text, StoreUnavailable.

    A file may be uploaded later, but then its key must have the suffix of a picture or film. Addresses are not fetched
    here: their server may answer later. If it does not, the state of the input shows the reason.
    """
    known = {spec.picture for spec in before}
    for key in {spec.picture for spec in specs} - known:
        if not is_object_key(key) or key.startswith(("http://", "https://")):
            continue
        try:
            head = b"".join([piece async for piece in objects.read(key, 0, _HEAD)])
        except NoSuchObject:
            if key.rpartition(".")[2].lower() not in _SUFFIXES:
                raise InvalidField(
                    _FIELD, "expected the key of a picture or film in the store, or an address"
                ) from None
            continue
        if _is_text(head):
            raise InvalidField(_FIELD, f"{key[:100]} in the store is text and no picture or film")


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # `head` may end inside a character
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in _SPACES for c in text)
