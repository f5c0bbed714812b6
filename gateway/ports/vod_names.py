"""The file names of a VOD, derived from the name of its source file."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, Final
from urllib.parse import quote

# Maximum bytes of a base name, so that the longest name built from it fits the 255 bytes of a file name.
_MAX_BASE = 230
# Characters that URIs contain unescaped besides letters, digits and "-._~" (RFC 3986 §3.3). A colon is escaped, because
# a relative reference must not begin like a scheme (§4.2).
_UNESCAPED: Final = "!$'()*+,;=@"
_SEGMENT = re.compile(r"stream_[0-9]{5,7}\.ts", re.ASCII)
MAX_LANGUAGE: Final = 16  # characters of a language of captions, so that the longest file name fits
_CAPTIONS = re.compile(rf"cc_[a-z0-9-]{{2,{MAX_LANGUAGE}}}\.(?:vtt|m3u8)", re.ASCII)


@dataclass(frozen=True, slots=True)
class VodNames:
    """Names of the files below `prefix` + "/". They begin with `base`, the base name of the source.

    MediaConvert uses these names if a job's destination ends in a slash. Segments have numbers of 5 digits, pictures of
    7 digits.
    """

    prefix: str
    base: str
    thumbnail: ClassVar[str] = "thumbnail.0000000.jpg"
    preview: ClassVar[str] = "thumbnails.vtt"  # the WebVTT list of pictures for the time bar of players
    preview_pictures: ClassVar[str] = "thumbnails.jpg"  # the JPEG sheet with these pictures

    @property
    def master(self) -> str:
        return f"{self.base}.m3u8"

    @property
    def playlist(self) -> str:
        return f"{self.base}stream.m3u8"

    def segment(self, number: int) -> str:
        """Returns the file name of a segment. number: from 1."""
        return f"{self.base}stream_{number:05d}.ts"

    def captions(self, language: str) -> str:
        """Returns the file name of captions in WebVTT. language: BCP 47, at most MAX_LANGUAGE characters."""
        return f"{self.base}cc_{language.lower()}.vtt"

    def captions_playlist(self, language: str) -> str:
        """Returns the file name of the media playlist of these captions."""
        return f"{self.base}cc_{language.lower()}.m3u8"

    @property
    def poster(self) -> str:
        return f"{self.base}.0000000.jpg"

    def key(self, file: str) -> str:
        """Returns the object key of one of these files."""
        return f"{self.prefix}/{file}"

    def has(self, file: str) -> bool:
        """Whether `file` may be a file of this VOD. Recordings and uploads have other names."""
        if file in (self.master, self.playlist, self.poster, self.thumbnail, self.preview, self.preview_pictures):
            return True
        rest = file.removeprefix(self.base)
        return rest != file and bool(_SEGMENT.fullmatch(rest) or _CAPTIONS.fullmatch(rest))


def names_of(key: str) -> VodNames:
    """Returns the names for the source file `key`.

    The folder is the key without its last extension, so that names with dots do not collide.
    Raises ValueError if the key has no extension or nothing before it: the folder would be the source file itself.
    """
    path = PurePosixPath(key)
    if not path.suffix or not path.stem:
        raise ValueError("a name with an extension is needed, such as clip.mp4")
    if len(path.stem.encode(errors="surrogateescape")) > _MAX_BASE:
        raise ValueError(f"the name is longer than {_MAX_BASE} bytes")
    return VodNames(key.removesuffix(path.suffix), path.stem)


def names_in(folder: str) -> VodNames:
    """Returns the names for the VOD in `folder`, which must not be empty."""
    return VodNames(folder, folder.rpartition("/")[2])


def vod_names_of(key: str) -> VodNames | None:
    """Returns the names of the VOD with the master playlist `key`; None if it is another kind of key."""
    folder, _, file = key.rpartition("/")
    if not folder:
        return None
    names = names_in(folder)
    return names if file == names.master else None


def is_vod_file(key: str) -> bool:
    """Whether this is the object key of a VOD file."""
    folder, _, file = key.rpartition("/")
    return bool(folder) and names_in(folder).has(file)


def reference(file: str) -> str:
    """Returns the reference to a file beside the playlist: a URI, in which a space is `%20`."""
    return quote(file, safe=_UNESCAPED)


def play_name(folder: str) -> str:
    """Returns the name that a play signature for a folder of VODs covers: `vod/` and the folder as in URLs.

    No channel or rendition has this name: their names contain no "/".
    """
    return f"vod/{quote(folder, safe='/')}"
