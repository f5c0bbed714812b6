"""What is public on the admin listener (health, readiness, a page that says what this is), and the metrics."""

from __future__ import annotations

import base64
import hashlib
import html

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT
from gateway.lib.metrics import CONTENT_TYPE

_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1c1e21;"
    "background:#fff}code,pre{background:#f2f3f5;border-radius:4px;padding:.1em .3em}pre{padding:1em;overflow:auto}"
    "a{color:#0a58a5}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181b}"
    "code,pre{background:#24272b}a{color:#7cb8f2}}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def healthcheck(request: web.Request) -> web.Response:
    """OK while the process answers, whatever else is wrong."""
    return web.Response(text="OK")


async def ready(request: web.Request) -> web.Response:
    """200, or 503 with the names of what is missing."""
    missing = await request.app[CONTEXT].readiness.missing()
    if missing:
        return answer({"ready": False, "missing": list(missing)}, 503, {"Retry-After": "5"})
    return answer({"ready": True, "missing": []})


async def metrics(request: web.Request) -> web.Response:
    body = request.app[CONTEXT].metrics.render()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def home(request: web.Request) -> web.Response:
    """For whoever opens the printed address in a browser."""
    context = request.app[CONTEXT]
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Millrace</title>
<style>{_STYLE}</style>
<h1>Millrace</h1>
<p>Live media gateway, version {html.escape(context.version)}. This is its admin listener.</p>
<ul>
<li><a href="/healthcheck">Health</a> and <a href="/ready">readiness</a> are open to everybody.</li>
<li>The API is described in <code>/openapi.json</code>, measurements are at <code>/metrics</code>; both need the token
that was printed at the first start.</li>
</ul>
<pre>curl -H "Authorization: Bearer $TOKEN" {request.scheme}://{html.escape(request.host)}/videostream</pre>
</html>
"""
    return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": _POLICY})
