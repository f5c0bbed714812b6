"""The playback formats, and the lists that addresses, viewer counts, outputs and edges derive from them.

Commands read this file, so it imports no code of a format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.channels import fields
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.media.caption_track import CAPTIONS_FOLDER
from gateway.playback.play_format import (
    ADDITIONAL_AUDIO,
    LIVE_FLV,
    LIVE_M3U8,
    MANIFEST,
    MASTER,
    CacheClass,
    PlayAddress,
    PlayFormat,
    PlayListener,
)

if TYPE_CHECKING:
    from gateway.listeners.port_listener import OpenListeners
    from gateway.playback.services import PlayServices


def _open_whep(services: PlayServices) -> OpenListeners:
    from gateway.playback.webrtc.whep import open_whep

    return open_whep(services)


def _open_moq(services: PlayServices) -> OpenListeners:
    from gateway.playback.moq.pages import open_moq

    return open_moq(services)


FLV: Final = PlayFormat(
    output="flv",
    flag="isFlv",
    addresses=(PlayAddress("flv", LIVE_FLV, "HTTP-FLV"), PlayAddress("wsflv", LIVE_FLV, "WS-FLV", "ws")),
    module="gateway.playback.flv",
    pulled=True,
)
RTMP: Final = PlayFormat(
    output="rtmp",
    flag="",
    addresses=(PlayAddress("rtmp", "", "RTMP", "rtmp"),),
    module="gateway.playback.rtmp",
    pulled=True,
    listener=PlayListener("rtmp"),  # players and publishers use one port
)
WHEP: Final = PlayFormat(
    output="whep",
    flag="",  # always on, because it costs nothing without viewers
    addresses=(PlayAddress("whep", "whep", "WHEP"),),
    module="gateway.playback.webrtc.whep_output",
    pulled=True,
    listener=PlayListener("webrtc", _open_whep),
)
SRT: Final = PlayFormat(
    output="srt",
    flag="",  # always on, because it costs nothing without players
    addresses=(PlayAddress("srt", "", "SRT", "srt"),),
    module="gateway.playback.srt",
    pulled=True,
    listener=PlayListener("srt"),  # players and publishers use one port
)
RTSP: Final = PlayFormat(
    output="rtsp",
    flag="",  # always on, because it costs nothing without players
    addresses=(PlayAddress("rtsp", "", "RTSP", "rtsp"),),
    module="gateway.playback.rtsp",
    pulled=True,
    listener=PlayListener("rtsp", is_optional=True),  # players and publishers use one port
)
MOQ: Final = PlayFormat(
    output="moq",
    flag="",  # on for all channels where the port is open, because it costs nothing without viewers
    addresses=(PlayAddress("moq", "", "MoQ", "moq"),),
    module="gateway.playback.moq.moq_output",
    pulled=True,
    listener=PlayListener("moq", _open_moq, is_optional=True),
    is_on=lambda settings: settings.moq.port >= 0,
)
HLS: Final = PlayFormat(
    output="hls",
    flag="isHls",
    addresses=(PlayAddress("hls", LIVE_M3U8, "HLS"),),
    module="gateway.playback.hls",
    on_demand=lambda settings: settings.hls.on_demand,
    rendition_codec="libx264",
    files={"m3u8": CacheClass.PLAYLIST, "ts": CacheClass.MEDIA},
)
CMAF: Final = PlayFormat(
    output="cmaf",
    flag="isCMAF",
    addresses=(PlayAddress("cmaf", MASTER, "LL-HLS"), PlayAddress("dash", MANIFEST, "DASH")),
    module="gateway.playback.cmaf",
    on_demand=lambda settings: settings.cmaf.on_demand,
    rendition_codec="libx265",
    files={"m3u8": CacheClass.PLAYLIST, "mpd": CacheClass.MANIFEST}
    | dict.fromkeys(("m4s", "mp4", "vtt"), CacheClass.MEDIA),
    folders=("video", "audio", *ADDITIONAL_AUDIO),
)
# Clients list the formats in this order.
FORMATS: Final = (FLV, RTMP, SRT, RTSP, WHEP, HLS, CMAF, MOQ)
for _format in FORMATS:
    fields.add({name: field.field for name, field in _format.fields.items()})

ADDRESSES: Final = tuple(address for format in FORMATS for address in format.addresses)
# The address of a channel's renditions. Their players are counted under the format of the media.
LADDER: Final = "ladder"
LADDER_INDEX: Final = "index.m3u8"
# The output of each channel flag, which switches it on and off.
OPTIONAL_OUTPUTS: Final = {format.flag: format.output for format in FORMATS if format.flag}
# The outputs that browsers play, on only where their port is open.
BROWSER_PORTS: Final = (MOQ.output,)
# The outputs that no flag switches off, and browsers can play.
ALWAYS_ON: Final = tuple(
    format.output for format in FORMATS if not format.flag and format.addresses[0].scheme == "http"
)
# The addresses whose media do not come from the playback port, so that no cache in front of it can pass them.
OWN_PORTS: Final = frozenset(address.name for format in FORMATS if format.listener for address in format.addresses)
# The outputs with lasting connections. Their metrics exist from the start.
FEEDS: Final = tuple(format.output for format in FORMATS if format.pulled)
# The cache class of each file by suffix. Other files are cached only by their `Cache-Control`.
FILES: Final = {suffix: cache_class for format in FORMATS for suffix, cache_class in format.files.items()}

# By path or first folder: the protocol under which players are counted; "": they are not counted.
_PROTOCOLS: Final = {
    **{address.path: address.name for format in FORMATS if format.files for address in format.addresses},
    **{folder: format.output for format in FORMATS for folder in format.folders},
    LADDER_INDEX: "",
    CAPTIONS_FOLDER: "",
}
_MEDIA_PROTOCOLS: Final = {suffix: format.output for format in FORMATS for suffix in format.media}


def suffixes(*cache_classes: CacheClass) -> tuple[str, ...]:
    """Returns the suffixes of files of these classes, each with its dot."""
    return tuple(f".{suffix}" for suffix, cache_class in FILES.items() if cache_class in cache_classes)


def enabled_outputs(channel: Channel) -> list[str]:
    """Returns the outputs that a channel's flags enable, with their names in `status.json`."""
    return [output for flag, output in OPTIONAL_OUTPUTS.items() if channel.flag(flag)]


def is_watchable(channel: Channel) -> bool:
    """Whether a channel has any output that viewers can open in a browser."""
    return bool(enabled_outputs(channel) or channel.renditions)


def play_urls(addresses: Addresses, channel: Channel, query: str = "") -> dict[str, str]:
    """Returns the play URLs of the enabled outputs. query: "" or "?…", appended to each URL."""
    bases = addresses.play_bases(channel)
    for scheme in {address.scheme for address in ADDRESSES} - bases.keys():  # of a format with a port of its own
        bases[scheme] = f"{addresses.server(scheme)}/{channel.id}/"
    enabled = [f for f in FORMATS if (not f.flag or channel.flag(f.flag)) and f.has_addresses(addresses.ports)]
    urls = {a.name: bases[a.scheme] + a.path for format in enabled for a in format.addresses}
    if channel.renditions:
        urls[LADDER] = bases["http"] + LADDER_INDEX
    return {name: url + query for name, url in urls.items()}


def viewer_protocol(path: str, text: bytes) -> str:
    """Returns the protocol under which players of a file are counted; "" if they are not counted.

    path: path below the stream. text: the file's content, which decides for a rendition's playlist: it is counted under
    the format of the media that it lists.
    """
    protocol = _PROTOCOLS.get(path, _PROTOCOLS.get(path.partition("/")[0]))
    if protocol is not None:
        return protocol
    suffix = path.rpartition(".")[2]
    if FILES.get(suffix) is CacheClass.PLAYLIST:
        return next((output for media, output in _MEDIA_PROTOCOLS.items() if f".{media}".encode() in text), "")
    return _MEDIA_PROTOCOLS.get(suffix, "")
