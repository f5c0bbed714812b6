"""The text that `make run` prints: a first channel, and how to push to it and play it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from gateway import __version__
from gateway.adapters.local.host import shown_host
from gateway.adapters.stores import Stores
from gateway.api.presenter import Presenter
from gateway.channels.addresses import Addresses, OpenPorts
from gateway.channels.channel import Channel, create_item
from gateway.channels.channel_events import channel_created
from gateway.channels.stores import ChannelStore
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.registry import push_addresses
from gateway.playback.formats import ADDRESSES
from gateway.ports.events import Events
from gateway.settings import Settings

_KEY_DAYS = 365  # lifetime of the first channel's key


async def _first_channel(store: ChannelStore, secrets: SigningSecrets, item_limit: int, events: Events) -> Channel:
    """Returns the channel with the latest expiry.

    If all have expired, creates one with all playback formats.
    """
    now = time.time()
    usable = [c for c in await store.list() if not c.expired(now)]
    if usable:
        return max(usable, key=lambda c: c.expires)
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=_KEY_DAYS)
    body = {
        "videoname": "First channel",
        "outdate": expires.isoformat().replace("+00:00", "Z"),
        "isFlv": True,
        "isHls": True,
        "isCMAF": True,
    }
    channel = await store.add(create_item(body, now, secrets, item_limit))
    events.emit(channel_created(channel, now, {"by": "first start"}))
    return channel


async def welcome_text(
    settings: Settings, secrets: SigningSecrets, stores: Stores, ports: OpenPorts, events: Events
) -> str:
    """Returns the text. ports: the open ports. events: get the creation of the channel."""
    channel = await _first_channel(stores.channels, secrets, settings.limits.item, events)
    public = {name: shown_host(getattr(settings, name).host) for name in ("rtmp", "http", "admin")}
    on_all = {name: getattr(settings, name).host in ("0.0.0.0", "::") for name in public}
    local = {name: "127.0.0.1" if on_all[name] else host for name, host in public.items()}
    domains = await stores.domains.get_domains()
    addresses = Addresses.of(domains, ports, local["rtmp"], local["http"], settings.playback.public_url)
    presenter = Presenter(addresses, secrets, push_addresses, settings.playback.auth, settings.playback.sign_ttl)
    item = presenter.present(channel, time.time())
    plays: dict[str, str] = item["playUrls"]
    page = f"{addresses.pull}/{channel.id}"
    rows = [f"    {address.label:<9} {plays[address.name]}" for address in ADDRESSES if address.name in plays]
    pages = [f"    {page}/{p}" for kind, p in (("flv", "flv.html"), ("cmaf", "hls.html")) if kind in plays]
    scheme = "https" if settings.admin.tls else "http"
    host = f"[{local['admin']}]" if ":" in local["admin"] else local["admin"]
    lines = [
        "",
        f"Millrace {__version__} is ready.",
        "",
        "Push with OBS: Settings, Stream, Service “Custom…”",
        f"    Server      {item['obsServer']}",
        f"    Stream Key  {item['obsKey']}",
        "or a test picture with ffmpeg:",
        "    ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 \\",
        "      -c:v libx264 -preset veryfast -tune zerolatency -g 60 -pix_fmt yuv420p -c:a aac -f flv \\",
        f"      '{item['pushUrl']}'",
        "or from a browser's camera: “Go live” in the console below.",
        "",
        "Watch in a browser:",
        *pages,
        "or in any player:",
        *rows,
        "",
        f"Console: {scheme}://{host}:{ports['admin']}/ (log in with the admin token)",
    ]
    if on_all["http"] and public["http"] != "127.0.0.1":
        lines.append(
            f"From other machines: {public['http']} instead of 127.0.0.1 (the console is for this machine only)."
        )
    lines += ["Stop with Ctrl-C.", ""]
    return "\n".join(lines)
