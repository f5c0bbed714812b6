"""The names of what a film becomes, which follow from the film's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

# A film's base name is at most this long, so that the longest name made of it fits a file name's 255 bytes.
_MOST_BASE = 230
_SEGMENT = re.compile(r"stream_[0-9]{5,7}\.ts", re.ASCII)


@dataclass(frozen=True, slots=True)
class Names:
    """Files below `prefix` + "/", called after `base`.

    They are those that MediaConvert gives a job whose destination ends in a slash: 5 digits count segments, 7 pictures.
    """

    prefix: str
    base: str

    @property
    def master(self) -> str:
        return f"{self.base}.m3u8"

    @property
    def playlist(self) -> str:
        return f"{self.base}stream.m3u8"

    def segment(self, number: int) -> str:
        """number: from 1."""
        return f"{self.base}stream_{number:05d}.ts"

    @property
    def poster(self) -> str:
        return f"{self.base}.0000000.jpg"

    @property
    def thumbnail(self) -> str:
        return "thumbnail.0000000.jpg"

    def key(self, file: str) -> str:
        """The object key of one of these files."""
        return f"{self.prefix}/{file}"

    def has(self, file: str) -> bool:
        """Whether a film of this name may have made `file`; recordings and uploads have other names."""
        if file in (self.master, self.playlist, self.poster, self.thumbnail):
            return True
        return file.startswith(self.base) and _SEGMENT.fullmatch(file[len(self.base) :]) is not None


def names_of(key: str) -> Names:
    """Of the film `key`: its folder is the key without its last extension, so that dotted names do not collide.

    ValueError where nothing would be left of it or nothing would be taken away: the folder would be the film itself.
    """
    path = PurePosixPath(key)
    if not path.suffix or not path.stem:
        raise ValueError("a name with an extension is needed, such as clip.mp4")
    if len(path.stem.encode()) > _MOST_BASE:
        raise ValueError(f"the name is longer than {_MOST_BASE} bytes")
    return Names(key.removesuffix(path.suffix), path.stem)


def names_in(folder: str) -> Names:
    """Of whatever film was made into `folder`, which is not empty."""
    return Names(folder, folder.rpartition("/")[2])


def uri(name: str) -> str:
    """A file name as a URI relative to its folder; names may hold spaces, "#", "?" and any script."""
    return quote(name, safe="!$'()*+,;=@~")


def play_name(folder: str) -> str:
    """What a play sign for the films of a folder is made for: `vod/` and the folder as it stands in addresses.

    No channel is called so, nor a rendition: neither "/" nor "@" is in their names as it is in this one.
    """
    return f"vod/{quote(folder, safe='/')}"
