"""QR codes of addresses, as SVG."""

import asyncio
import html
import io
from typing import Final

from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.body import json_object
from gateway.api.route import operation

MAX_BYTES: Final = 1_024  # bytes of the text; a phone cannot read the QR code of a longer one


@operation(console_schemas.QrCode, body=console_schemas.QrText, statuses=(413,))
async def create(request: web.Request) -> web.Response:
    """A text as a QR code.

    The text is in the body, because an address may contain a stream key.
    """
    body = await json_object(request)
    text = body.get("text")
    if not isinstance(text, str) or not 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_BYTES:
        raise BadRequest(f"expected text of 1 to {MAX_BYTES} bytes", field="text")
    if not text.isprintable():
        raise BadRequest("expected printable characters", field="text")
    return answer({"svg": await svg(text, "QR code")})


async def respond(text: str, title: str) -> web.Response:
    """Returns an answer with the text as a QR code."""
    return web.Response(text=await svg(text, title), content_type="image/svg+xml")


async def svg(text: str, title: str) -> str:
    """Returns the text as a QR code with a title. It is made in a thread, because long texts take tens of ms."""
    return await asyncio.to_thread(_svg, text, title)


def _svg(text: str, title: str) -> str:
    import segno  # imported here, because it takes 1 MB of memory

    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", title=title, omitsize=True, border=4, dark="#000", light="#fff", xmldecl=False
    )
    # The SVG is loaded as its own document, so it needs a role and a label for assistive technology.
    return out.getvalue().decode().replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
