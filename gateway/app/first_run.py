"""The text that `make run` prints: a first channel, and how to push to it and play it."""

import time

from gateway import __version__
from gateway.adapters.local.host import shown_host
from gateway.api.presenter import Presenter
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel, create_item
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.expiry import NEVER
from gateway.channels.stores import DomainStore
from gateway.channels.stream_key import SigningSecrets
from gateway.lib.network import url_host
from gateway.playback.formats import ADDRESSES, LADDER

_ALL = ("0.0.0.0", "::")  # the hosts of listeners on all addresses


async def _first_channel(changes: ChannelChanges, secrets: SigningSecrets, item_limit: int) -> Channel:
    """Returns the channel with the latest expiry.

    If all have expired, creates one with all playback formats.
    """
    now = time.time()
    usable = [c for c in await changes.store.list() if not c.expired(now)]
    if usable:
        return max(usable, key=lambda c: c.expires)
    flags = {"isFlv": True, "isHls": True, "isCMAF": True}
    body = {"videoname": "First channel", "outdate": NEVER, **flags}
    return await changes.create(create_item(body, now, secrets, item_limit), {"by": "first start"})


async def welcome_text(parts: NodeParts, domains: DomainStore, changes: ChannelChanges, ports: OpenPorts) -> str:
    """Returns the text. Its addresses are those of the console. ports: the open ports, as users see them."""
    settings, secrets = parts.settings, parts.secrets
    channel = await _first_channel(changes, secrets, settings.limits.item)
    presenter = Presenter.of(settings, secrets, await domains.get_domains(), ports)
    now = time.time()
    item = presenter.present(channel, now)
    labels = {address.name: address.label for address in ADDRESSES} | {LADDER: "ABR"}
    rows = [f"    {labels[name]:<9} {url}" for name, url in item["playUrls"].items()]
    scheme = "https" if settings.admin.tls else "http"
    admin = "127.0.0.1" if settings.admin.host in _ALL else shown_host(settings.admin.host)
    if settings.admin.tls:
        admin = ports.certificate.host_for(admin)
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
        "or over SRT, with OBS (Server) or ffmpeg (-f mpegts):",
        f"    {item['pushUrls']['srt']}",
        "or from a browser's camera: “Go live” in the console below.",
        "",
        "Watch in a browser:",
        f"    {presenter.page(channel, now)}",
        "or in any player:",
        *rows,
        "",
        f"Console: {scheme}://{url_host(admin)}:{ports['admin']}/ (log in with the admin token)",
    ]
    pull = shown_host(settings.http.host)
    if settings.tls.acme and not ports.certificate:
        lines.append(f"A certificate for {', '.join(settings.tls.acme)} is requested; then the addresses are https.")
    elif not ports.certificate and settings.http.host in _ALL and pull != "127.0.0.1":
        lines.append(f"On this machine, 127.0.0.1 works instead of {pull} too.")
    lines += ["Stop with Ctrl-C.", ""]
    return "\n".join(lines)
