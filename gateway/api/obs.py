"""The configuration of OBS Multitrack Video, for its field "Config Override (JSON)"."""

import re
from typing import Final

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.route import operation
from gateway.channels import obs_multitrack
from gateway.channels.obs_multitrack import ENCODERS, MAX_VIDEO_TRACKS, Canvas, EncoderLimits

QUERY: Final = (
    ("size", "the canvas of OBS, such as 1920x1080 (default)"),
    ("fps", "frames a second of OBS, such as 30 (default), 60 or 60000/1001"),
    ("encoder", f"the encoder of OBS: {', '.join(ENCODERS)} (default x264)"),
    ("tracks", f"the largest number of video tracks, 1 to {MAX_VIDEO_TRACKS} (default {MAX_VIDEO_TRACKS})"),
)
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_FPS = re.compile(r"([0-9]{1,7})(?:/([0-9]{1,7}))?", re.ASCII)
_TRACKS = re.compile(r"[1-4]", re.ASCII)


@operation(schemas.ObsMultitrack, query=QUERY)
async def multitrack(request: web.Request) -> web.Response:
    """The configuration of OBS Multitrack Video for a channel."""
    query = request.query
    size = _SIZE.fullmatch(query.get("size", "1920x1080"))
    if size is None:
        raise BadRequest("expected a size, such as 1920x1080", field="size")
    rate = _FPS.fullmatch(query.get("fps", "30"))
    if rate is None:
        raise BadRequest("expected frames a second, such as 30 or 60000/1001", field="fps")
    encoder = query.get("encoder", ENCODERS[0])
    if encoder not in ENCODERS:
        raise BadRequest(f"expected one of {', '.join(ENCODERS)}", field="encoder")
    tracks = query.get("tracks", str(MAX_VIDEO_TRACKS))
    if not _TRACKS.fullmatch(tracks):
        raise BadRequest(f"expected 1 to {MAX_VIDEO_TRACKS}", field="tracks")
    try:
        canvas = Canvas(int(size[1]), int(size[2]), int(rate[1]), int(rate[2] or 1))
    except ValueError as error:
        raise BadRequest(str(error), field="size" if "size" in str(error) else "fps") from None
    channel = await stored_channel(request)
    presenter = await request.app[CONTEXT].presenter(request)
    server, key = presenter.addresses.rtmp_server(channel), f"{channel.id}?sign={channel.key}"
    return answer(obs_multitrack.make_configuration(canvas, EncoderLimits(encoder, int(tracks)), server, key))
