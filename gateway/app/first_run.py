"""The text that `make run` shows: a first channel, and how to push to it and play it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from gateway import __version__
from gateway.api.presenter import Presenter
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel, create_item
from gateway.channels.stores import ChannelStore
from gateway.channels.stream_key import SigningSecrets
from gateway.playback.formats import ADDRESSES

FIRST_DAYS = 365  # lifetime of the first channel's key


async def first_channel(store: ChannelStore, secrets: SigningSecrets, item_limit: int) -> Channel:
    """Returns the channel with the latest expiry.

    If none can be pushed now, creates one with all playback formats on.
    """
    now = time.time()
    usable = [c for c in await store.list() if not c.expired(now)]
    if usable:
        return max(usable, key=lambda c: c.expires)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=FIRST_DAYS)
    body = {
        "videoname": "First channel",
        "outdate": until.isoformat().replace("+00:00", "Z"),
        "isFlv": True,
        "isHls": True,
        "isCMAF": True,
    }
    return await store.add(create_item(body, now, secrets, item_limit))


def greeting(channel: Channel, addresses: Addresses, presenter: Presenter, console: str, elsewhere: str | None) -> str:
    """Returns the whole text.

    elsewhere: this machine's address for other machines; None where it listens only locally.
    """
    shown = presenter.present(channel, time.time())
    plays: dict[str, str] = shown["playUrls"]
    page = f"{addresses.pull}/{channel.id}"
    rows = [f"    {address.label:<9} {plays[address.name]}" for address in ADDRESSES if address.name in plays]
    pages = [f"    {page}/{p}" for kind, p in (("flv", "flv.html"), ("cmaf", "hls.html")) if kind in plays]
    lines = [
        "",
        f"Millrace {__version__} is ready.",
        "",
        "Push with OBS: Settings, Stream, Service “Custom…”",
        f"    Server      {shown['obsServer']}",
        f"    Stream Key  {shown['obsKey']}",
        "or a test picture with ffmpeg:",
        "    ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 \\",
        "      -c:v libx264 -preset veryfast -tune zerolatency -g 60 -pix_fmt yuv420p -c:a aac -f flv \\",
        f"      '{shown['pushUrl']}'",
        "or from a browser's camera: “Go live” in the console below.",
        "",
        "Watch in a browser:",
        *pages,
        "or in any player:",
        *rows,
        "",
        f"Console: {console} (log in with the admin token)",
    ]
    if elsewhere:
        lines.append(f"From other machines: {elsewhere} in place of 127.0.0.1 (the console answers on this one only).")
    lines += ["Stop with Ctrl-C.", ""]
    return "\n".join(lines)
