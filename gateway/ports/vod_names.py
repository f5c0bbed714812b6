"""The file names of a VOD, derived from the name of its source file."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

# Bytes of a base name at most, so that the longest name made from it fits the 255 bytes of a file name.
_MAX_BASE = 230
# Characters that URIs and playlists contain unescaped, and that have no meaning in file names (RFC 3986 §3.3).
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~!$'()*+,;=@-]+", re.ASCII)
_MAX_READABLE: Final = 200  # characters of the readable part, so that the longest file name fits
_SEGMENT = re.compile(r"stream_[0-9]{5,7}\.ts", re.ASCII)


@dataclass(frozen=True, slots=True)
class VodNames:
    """Files below `prefix` + "/", named after `base`, which needs no escaping (see `plain_base`).

    original: the base name of the source, if it differs from `base`. The files of older VODs are named after it.
    The names are those of MediaConvert for a job whose destination ends in a slash: 5 digits number segments, 7
    digits pictures.
    """

    prefix: str
    base: str
    original: str = ""

    @property
    def earlier(self) -> VodNames | None:
        """The names of an older VOD, made before `plain_base` existed; None if they are equal to these."""
        return VodNames(self.prefix, self.original) if self.original else None

    @property
    def master(self) -> str:
        return f"{self.base}.m3u8"

    @property
    def playlist(self) -> str:
        return f"{self.base}stream.m3u8"

    def segment(self, number: int) -> str:
        """Returns the file name of a segment. number: from 1."""
        return f"{self.base}stream_{number:05d}.ts"

    @property
    def poster(self) -> str:
        return f"{self.base}.0000000.jpg"

    @property
    def thumbnail(self) -> str:
        return "thumbnail.0000000.jpg"

    def key(self, file: str) -> str:
        """Returns the object key of one of these files."""
        return f"{self.prefix}/{file}"

    def has(self, file: str) -> bool:
        """Whether `file` may belong to a VOD of this name. Recordings and uploads have other names."""
        if file in (self.master, self.playlist, self.poster, self.thumbnail):
            return True
        if file.startswith(self.base) and _SEGMENT.fullmatch(file[len(self.base) :]) is not None:
            return True
        earlier = self.earlier
        return earlier is not None and earlier.has(file)


def names_of(key: str) -> VodNames:
    """Returns the names for the source file `key`.

    The folder is the key without its last extension, so that names with dots do not collide. Raises ValueError if the
    key has no extension or nothing before it: the folder would be the source file itself.
    """
    path = PurePosixPath(key)
    if not path.suffix or not path.stem:
        raise ValueError("a name with an extension is needed, such as clip.mp4")
    if len(path.stem.encode(errors="surrogateescape")) > _MAX_BASE:
        raise ValueError(f"the name is longer than {_MAX_BASE} bytes")
    return _called(key.removesuffix(path.suffix), path.stem)


def names_in(folder: str) -> VodNames:
    """Returns the names for the VOD in `folder`, which must not be empty."""
    return _called(folder, folder.rpartition("/")[2])


def vod_names_of(key: str) -> VodNames | None:
    """Returns the names of the VOD with the master playlist `key`; None if it is another kind of key."""
    folder, _, file = key.rpartition("/")
    if not folder:
        return None
    names = names_in(folder)
    earlier = names.earlier
    if earlier is not None and file == earlier.master:
        return earlier
    return names if file == names.master else None


def is_vod_file(key: str) -> bool:
    """Whether the name of an object is that of a VOD file."""
    folder, _, file = key.rpartition("/")
    return bool(folder) and names_in(folder).has(file)


def _called(prefix: str, original: str) -> VodNames:
    base = plain_base(original)
    return VodNames(prefix, base, original if base != original else "")


def plain_base(base: str) -> str:
    """Returns the base name for the files of a VOD: `base` if it needs no escaping, else its readable part and a
    hash.

    ffmpeg and VLC open files on a disk with the exact characters of the playlist, escapes included. The hash keeps
    names apart whose readable parts are equal.
    """
    if _PLAIN.fullmatch(base):
        return base
    letters = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", letters).strip("-.")[:_MAX_READABLE] or "film"
    return f"{readable}-{hashlib.sha256(base.encode(errors='surrogateescape')).hexdigest()[:8]}"


def play_name(folder: str) -> str:
    """Returns the name for a play signature of the VODs in a folder: `vod/` and the folder as it is in URLs.

    No channel or rendition has this name: their names contain no "/".
    """
    return f"vod/{quote(folder, safe='/')}"
