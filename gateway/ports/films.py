"""A film: a finished or future video on demand (VOD) with its title. Films are kept apart from the history of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, Protocol

from gateway.lib.records import read_record
from gateway.lib.texts import storable

MAX_TITLE: Final = 200  # characters
MAX_DESCRIPTION: Final = 5_000  # characters
MAX_CAPTIONS: Final = 32  # languages of a film


class FilmState(StrEnum):
    UPLOADING = "UPLOADING"  # an upload address was given out
    PROCESSING = "PROCESSING"  # a job makes it
    READY = "READY"
    ERROR = "ERROR"  # its job failed
    DELETING = "DELETING"  # its files are being deleted


# The states of films in lists.
LISTED: Final = frozenset((FilmState.PROCESSING, FilmState.READY, FilmState.ERROR))


@dataclass(frozen=True, slots=True)
class FilmCaptions:
    """Captions of a film in one language. The film has at most one for each, in upper or lower case.

    language: BCP 47. label: what players show. uploaded: whether they came as a file; otherwise the video had them.
    """

    language: str
    label: str
    uploaded: bool = False


@dataclass(frozen=True, slots=True)
class Film:
    """One film as it is stored.

    key: its folder in the object store. source: as in its job.
    created: seconds since 1970. duration: seconds, 0 if unknown. size: bytes of its files, 0 if unknown.
    files: object keys by name: hls, poster, thumbnail, preview. Only those that exist.
    error: one line, for the state ERROR.
    version: increases with each change. A change is stored only if it is based on the stored version.
    """

    key: str
    title: str
    created: float
    description: str = ""
    state: FilmState = FilmState.PROCESSING
    source: str = ""
    duration: float = 0.0
    size: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    captions: tuple[FilmCaptions, ...] = ()
    error: str = ""
    version: int = 1

    @property
    def order(self) -> tuple[int, str]:
        """The position in lists: milliseconds of `created`, then the key."""
        return int(self.created * 1000), self.key

    @property
    def search_text(self) -> str:
        """The text that a search looks through, see `search_form`."""
        return search_form(f"{self.title}\n{self.key}\n{self.description}")

    def to(self, **changes: Any) -> Film:
        """Returns the next version with these changes."""
        return replace(self, version=self.version + 1, **changes)

    def as_item(self) -> dict[str, Any]:
        """Returns plain values for a store."""
        item = {field.name: getattr(self, field.name) for field in fields(self)}
        captions = [asdict(each) for each in self.captions]
        return item | {"state": str(self.state), "files": dict(self.files), "captions": captions}

    @classmethod
    def of_item(cls, item: Mapping[str, Any]) -> Film:
        """Returns the film for the values of `as_item`. Ignores fields of newer programs."""
        return read_record(cls, item, defaults=True)


def merged_captions(captions: Sequence[FilmCaptions], more: Sequence[FilmCaptions]) -> tuple[FilmCaptions, ...]:
    """Returns all captions. Those of `more` come after the others, and replace those of their language."""
    replaced = {each.language.lower() for each in more}
    return (*(each for each in captions if each.language.lower() not in replaced), *more)


def search_form(text: str) -> str:
    """Returns a text as searches compare it, without upper and lower case, and as every database can store it."""
    return storable(text.casefold())


class FilmStore(Protocol):
    """Stores films. Raises StoreUnavailable if the store does not answer or cannot write now."""

    async def add(self, film: Film) -> bool:
        """Stores a new film. Returns False if there is one with its key."""

    async def get(self, key: str) -> Film:
        """Returns a film, read consistently. Raises NoSuchFilm."""

    async def change(self, film: Film) -> bool:
        """Stores the next version of a film. Returns False if the stored version is not the previous one."""

    async def delete(self, film: Film) -> bool:
        """Deletes this version of a film. Returns False if another version is stored, or none."""

    async def discard(self, key: str) -> None:
        """Deletes any version of a film, also one that cannot be read."""

    async def newest(self, limit: int, after: tuple[int, str] | None = None, search: str = "") -> list[Film]:
        """Returns at most `limit` films in the states of LISTED, the newest first.

        after: the `order` of a film; only films behind it. search: only films whose `search_text` contains it.
        """

    async def in_state(self, state: FilmState) -> list[Film]:
        """Returns all films in one state, the oldest first."""

    async def check(self) -> None:
        """Returns if the store answers, else raises."""
