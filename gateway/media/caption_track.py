"""The captions that players are offered, as pages, playlists and manifests name them."""

from dataclasses import dataclass
from typing import Final

from gateway.media.labels import is_language

TEXT: Final = "TEXT"  # text from outside the pictures
SPEECH: Final = "SPEECH"  # text that an engine recognised
CAPTIONS_FOLDER: Final = "captions"


@dataclass(frozen=True, slots=True)
class CaptionTrack:
    """Captions of a stream.

    source: CC1 to CC4, SERVICE1 to SERVICE63, TEXT or SPEECH. label: what players show. language: BCP 47; "": unknown.
    default: whether players show it without being asked.
    """

    source: str
    label: str
    language: str = ""
    default: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether the pictures carry them, as CEA-608 or CEA-708."""
        return self.source not in (TEXT, SPEECH)

    @property
    def id(self) -> str:
        """The name in addresses. Text has one for each language."""
        return caption_id(self.source, self.language)

    @property
    def folder(self) -> str:
        """The folder of its files, below the stream's address."""
        return f"{CAPTIONS_FOLDER}/{self.id}"


def caption_id(source: str, language: str) -> str:
    """Returns the name in addresses and files of captions from this source in this language."""
    name = source.lower()
    return f"{name}-{language.lower()}" if source in (TEXT, SPEECH) and is_language(language) else name
