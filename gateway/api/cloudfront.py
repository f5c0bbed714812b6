"""Signs playback addresses for CloudFront, of channels and of any file below the playback address."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway.api.answers import BadRequest, Missing, answer
from gateway.api.body import json_object
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.channels.expiry import parse_outdate
from gateway.lib.rfc3339 import rfc3339
from gateway.playback.cloudfront_signer import (
    CloudFrontSigner,
    SigningConditions,
    check_url,
    resource_of,
    signed_cookies,
    signed_url,
)
from gateway.playback.formats import play_urls
from gateway.playback.webrtc.whep_format import ADDRESS as WHEP
from gateway.ports.errors import InvalidField

_DEFAULTS: Final = ("hls", "cmaf", "flv")  # the address of a channel that is signed if the request names none
_PAGE: Final = "page"


async def sign_channel(request: web.Request) -> web.Response:
    """Signs the play addresses of a channel. `url`: the name of the one to return as `url`.

    A custom policy is for everything below `<id>/`: playlists, segments and pages.
    """
    channel = await stored_channel(request)
    signer, body, conditions = await _request_of(request)
    addresses = (await request.app[CONTEXT].presenter(request)).addresses
    base = addresses.play_bases(channel)["http"]
    # CloudFront passes neither RTMP nor the requests of WHEP, whose media go past it.
    found = play_urls(addresses, channel).items()
    urls = {name: url for name, url in found if name != WHEP.name and not url.startswith("rtmp")}
    urls[_PAGE] = base
    name = body.get("url") or next((name for name in _DEFAULTS if name in urls), _PAGE)
    if not isinstance(name, str) or name not in urls:
        raise BadRequest(f"expected the name of a play address: {', '.join(urls)}", field="url")
    if conditions.custom:
        parameters = signer.parameters(f"{base}*", conditions)
        signed = {name: signed_url(url, parameters) for name, url in urls.items()}
    else:
        parameters = signer.parameters(_requested(urls[name]), conditions)
        signed = {name: signed_url(urls[name], parameters)}
    return _answer(signed[name], parameters, conditions, urls=signed)


async def sign(request: web.Request) -> web.Response:
    """Signs one address, such as that of a video on demand. A path stands for an address of this gateway.

    A custom policy of a playlist or a page is for its folder, that of another file for this file.
    """
    signer, body, conditions = await _request_of(request)
    url = body.get("url")
    pull = (await request.app[CONTEXT].presenter(request)).addresses.pull
    if not isinstance(url, str):
        raise BadRequest("expected an address or a path", field="url")
    url = check_url(pull + url if url.startswith("/") else url)
    if not url.startswith(f"{pull}/"):
        raise BadRequest(f"expected an address that begins with {pull}/", field="url")
    parameters = signer.parameters(resource_of(url) if conditions.custom else url, conditions)
    return _answer(signed_url(url, parameters), parameters, conditions)


async def _request_of(request: web.Request) -> tuple[CloudFrontSigner, dict[str, Any], SigningConditions]:
    """Returns the signer, the body and its conditions. Raises Missing without a key, BadRequest, InvalidField."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    if context.cloudfront is None:
        raise Missing("this node signs nothing: set cloudfront.private_key and cloudfront.key_pair_id")
    before = _time(body, "expires")
    if before is None:
        before = int(context.clock() + context.address_defaults.sign_ttl)
    network, policy = body.get("ip", ""), body.get("policy", "")
    if not isinstance(network, str) or not isinstance(policy, str):
        raise BadRequest("expected text", field="policy" if isinstance(network, str) else "ip")
    return context.cloudfront, body, SigningConditions.of(before, _time(body, "from"), network, policy)


def _time(body: dict[str, Any], field: str) -> int | None:
    if body.get(field) is None:
        return None
    try:
        return parse_outdate(body[field])
    except InvalidField as error:
        raise InvalidField(field, error.message) from None


def _requested(url: str) -> str:
    """Returns the address that an edge sees: a WebSocket begins as an HTTP request."""
    return f"http{url.removeprefix('ws')}" if url.startswith("ws") else url


def _answer(
    url: str, parameters: dict[str, str], conditions: SigningConditions, **more: dict[str, str]
) -> web.Response:
    expires = rfc3339(conditions.before)
    return answer({"url": url, "cookies": signed_cookies(parameters), "expires": expires, **more})
