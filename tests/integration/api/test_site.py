"""Posters, logo and texts of an operator's pages: uploads at a real gateway, and what gateways and edges show."""

from __future__ import annotations

import io
import urllib.request
from typing import Any

import pytest
from PIL import Image

from tests.integration.playback.test_public_channels import at, nodes
from tests.support.clients import until
from tests.support.gateway import Edge, Gateway, Reply, http
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

__all__ = ["nodes"]
gateway = shared_gateway()


def picture(form: str, size: tuple[int, int] = (64, 36), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, "teal").save(out, form, **options)
    return out.getvalue()


def upload(gateway: Gateway, path: str, data: bytes) -> Reply:
    url = f"http://127.0.0.1:{gateway.ports['admin']}{path}"
    headers = {"Authorization": f"Bearer {gateway.token}", "Content-Type": "image/png"}
    request = urllib.request.Request(url, data, headers, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=at_most(30)) as reply:
            return Reply(reply.status, dict(reply.headers), reply.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, dict(error.headers), error.read())


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_poster_is_encoded_anew_and_served(gateway: Gateway, form: str) -> None:
    channel = gateway.channel(isPublic=True)
    path = f"/videostream/{channel.id}/poster"
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    reply = upload(
        gateway, path, picture(form, (3000, 1000), exif=exif, **({"comment": b"secret"} if form == "JPEG" else {}))
    )
    assert reply.status == 200, reply.text
    key = reply.json()["poster"]
    shown = http("GET", channel.url("poster.jpg"))
    assert (shown.status, shown.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in shown.headers["cache-control"] and b"secret" not in shown.body
    assert (opened(shown.body).format, opened(shown.body).size) == ("JPEG", (1280, 427))
    assert (
        channel.url("status.json")
        and http("GET", channel.url("status.json")).json()["poster"] == f"vod/{key.partition('/')[2]}"
    )
    # An unchanged item can be sent back, and a poster of another channel cannot be taken over.
    other = gateway.channel()
    assert gateway.api("PUT", f"/videostream/{channel.id}", reply.json()).json()["poster"] == key
    gateway.api("PUT", f"/videostream/{other.id}", {"poster": key})
    assert http("GET", other.url("poster.jpg")).headers["content-type"] == "image/svg+xml"
    upload(gateway, path, picture("PNG", (20, 20)))
    assert http("GET", channel.url(f"vod/{key.partition('/')[2]}")).status == 404
    removed = gateway.api("DELETE", path).json()
    assert removed["poster"] == ""
    assert http("GET", channel.url("poster.jpg")).headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 400),
        (b"\x89PNG\r\n\x1a\n<script>", 400),
        (picture("GIF"), 400),
        (b"", 400),
        (picture("PNG", (9000, 9000), "1"), 400),
        (b"\xff\xd8\xff" + bytes(8_000_001), 413),
    ],
    ids=["svg", "damaged", "gif", "empty", "too many pixels", "too many bytes"],
)
def test_other_files_are_refused(gateway: Gateway, data: bytes, status: int) -> None:
    channel = gateway.channel()
    for path in (f"/videostream/{channel.id}/poster", "/site/logo"):
        reply = upload(gateway, path, data)
        assert (reply.status, "error" in reply.json()) == (status, True), reply.text
    assert upload(gateway, "/videostream/nobody/poster", picture("PNG")).status == 404


def test_title_logo_colour_and_text_appear_at_gateways_and_edges(nodes: tuple[Gateway, Gateway, Edge, Edge]) -> None:
    first = nodes[0]
    channel = first.channel(videoname="Hall", color="#AA0000", isPublic=True)
    wanted = {"title": 'Tom & "Jerry" <TV>', "color": "#ffcc00", "text": "Hello\nhttps://example.com/"}
    reply = first.api("PUT", "/site", wanted)
    assert reply.json() == {**wanted, "logo": None}
    for name, bad in (("color", "red"), ("color", "#12345"), ("title", "x" * 101), ("text", 5)):
        refused = first.api("PUT", "/site", {name: bad})
        assert (refused.status, refused.json()["field"]) == (400, name)
    logo = upload(first, "/site/logo", picture("PNG", (1024, 512), "RGBA")).json()["logo"]
    assert first.api("GET", logo).headers["content-type"].startswith("image/webp")
    for node in (first, *nodes[2:]):
        until(lambda node=node: at(node, "/_player/site.json").json()["logo"], "the site at a node", 30)
        site = at(node, "/_player/site.json").json()
        assert {name: site[name] for name in wanted} == wanted
        shown = at(node, site["logo"])
        assert shown.headers["content-type"] == "image/webp" and "immutable" in shown.headers["cache-control"]
        assert opened(shown.body).size == (512, 256)
        home = at(node, "/").text
        assert "<title>Tom &amp; &quot;Jerry&quot; &lt;TV&gt;</title>" in home
        assert 'og:image" content="http://' in home and "/_player/site-logo.webp?v=" in home
        page = at(node, f"/{channel.id}/").text
        assert 'og:site_name" content="Tom &amp; &quot;Jerry&quot; &lt;TV&gt;"' in page
        assert at(node, f"/{channel.id}/status.json").json()["color"] == "#AA0000"
    assert upload(first, f"/videostream/{channel.id}/poster", picture("PNG", (40, 20))).status == 200
    for node in (first, *nodes[2:]):  # the other gateway has a disk of its own
        until(
            lambda node=node: at(node, f"/{channel.id}/poster.jpg").body[:2] == b"\xff\xd8", "the poster at a node", 30
        )
    assert first.api("DELETE", "/site/logo").json()["logo"] is None
