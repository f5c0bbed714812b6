"""The playback formats, and what follows from them for addresses, viewer counts, outputs and edges."""

from __future__ import annotations

from typing import Final

from gateway.channels import fields
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.live.output import OutputSpec
from gateway.packaging.services import PackagingServices
from gateway.playback import cmaf, flv, hls, rtmp
from gateway.playback.play_format import CacheClass

# In the order in which clients are shown them.
FORMATS: Final = (flv.FORMAT, rtmp.FORMAT, hls.FORMAT, cmaf.FORMAT)
for _format in FORMATS:
    fields.add({name: one.field for name, one in _format.fields.items()})

ADDRESSES: Final = tuple(address for format in FORMATS for address in format.addresses)
# The address of a channel's renditions; they are counted as the format in which they play.
LADDER: Final = "ladder"
LADDER_INDEX: Final = "index.m3u8"
# The output of each flag: what a switch of the channel turns on and off.
SWITCHED: Final = {format.flag: format.output for format in FORMATS if format.flag}
# The outputs that hold connections: their metrics exist from the beginning.
FEEDS: Final = tuple(format.output for format in FORMATS if format.pulled)
# The cache class of each file, by its suffix; other files are kept as their `Cache-Control` says.
FILES: Final = {suffix: kept for format in FORMATS for suffix, kept in format.files.items()}

_COUNTED: Final = {
    **{address.path: format.output for format in FORMATS if format.files for address in format.addresses},
    **{folder: format.output for format in FORMATS for folder in format.folders},
    LADDER_INDEX: "",
}
_COUNTED_MEDIA: Final = {suffix: format.output for format in FORMATS for suffix in format.media}


def suffixes(*kept: CacheClass) -> tuple[str, ...]:
    """Returns the suffixes of files of these classes, each with its dot."""
    return tuple(f".{suffix}" for suffix, cache_class in FILES.items() if cache_class in kept)


def offered(channel: Channel) -> list[str]:
    """Returns the outputs that a channel's fields turn on, by their names in `status.json`."""
    return [output for flag, output in SWITCHED.items() if channel.flag(flag)]


def play_urls(addresses: Addresses, channel: Channel, query: str = "") -> dict[str, str]:
    """Returns the play URLs of the enabled outputs. query: "" or "?…", appended to each URL."""
    bases = addresses.play_bases(channel)
    shown = [format for format in FORMATS if not format.flag or channel.flag(format.flag)]
    urls = {a.name: bases[a.scheme] + a.path for format in shown for a in format.addresses}
    if channel.renditions:
        urls[LADDER] = bases["http"] + LADDER_INDEX
    return {name: url + query for name, url in urls.items()}


def counted_as(path: str, text: bytes) -> str:
    """Returns the protocol under which a holder counts players of a file; "" if it does not count them.

    path: below the stream. text: the file, if it is a rung's own playlist: that belongs to the format whose media it
    lists.
    """
    known = _COUNTED.get(path, _COUNTED.get(path.partition("/")[0]))
    if known is not None:
        return known
    suffix = path.rpartition(".")[2]
    if FILES.get(suffix) is CacheClass.PLAYLIST:
        return next((output for media, output in _COUNTED_MEDIA.items() if f".{media}".encode() in text), "")
    return _COUNTED_MEDIA.get(suffix, "")


def output_specs(services: PackagingServices, *, pulled: bool = False) -> list[OutputSpec]:
    """Returns the outputs of all formats. pulled: only those that nodes without the stream make, too."""
    return [format.spec(services) for format in FORMATS if format.pulled or not pulled]
