"""Signs addresses for CloudFront: those of a channel, and that of any file below the playback address."""

from typing import Any, Final

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, Missing, answer
from gateway.api.body import json_object, text_of
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.route import operation
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
from gateway.playback.formats import OWN_PORTS, play_urls
from gateway.ports.errors import InvalidField

SIGNER: Final = web.AppKey("cloudfront", CloudFrontSigner)  # only with a private key

_DEFAULTS: Final = ("hls", "cmaf", "flv")  # the address of a channel that is signed if the request names none
_PAGE: Final = "page"


@operation(schemas.SignedAddresses, body=schemas.ToSignOfChannel)
async def sign_channel(request: web.Request) -> web.Response:
    """Sign the play addresses of a channel for CloudFront.

    In the body, `url` is the name of an address. The answer has this address as `url`. A custom policy applies to
    everything below `<id>/`: playlists, segments and pages.
    """
    channel = await stored_channel(request)
    signer, body, conditions = await _read_request(request)
    addresses = (await request.app[CONTEXT].presenter(request)).addresses
    base = addresses.play_bases(channel)["http"]
    # CloudFront does not forward RTMP. The media of WHEP do not pass through it.
    found = play_urls(addresses, channel).items()
    urls = {name: url for name, url in found if name not in OWN_PORTS}
    urls[_PAGE] = base
    name = body.get("url") or next((name for name in _DEFAULTS if name in urls), _PAGE)
    if not isinstance(name, str) or name not in urls:
        raise BadRequest(f"expected the name of a play address: {', '.join(urls)}", field="url")
    if conditions.custom:
        parameters = signer.sign(f"{base}*", conditions)
        signed = {name: signed_url(url, parameters) for name, url in urls.items()}
    else:
        parameters = signer.sign(_requested(urls[name]), conditions)
        signed = {name: signed_url(urls[name], parameters)}
    return _answer(signed[name], parameters, conditions, urls=signed)


@operation(schemas.SignedAddress, body=schemas.ToSign, statuses=(404,))
async def sign(request: web.Request) -> web.Response:
    """Sign one address for CloudFront, such as that of a video on demand.

    A path stands for an address of this gateway.
    A custom policy for a playlist or a page applies to its folder. For another file, it applies only to this file.
    """
    signer, body, conditions = await _read_request(request)
    url = body.get("url")
    pull = (await request.app[CONTEXT].presenter(request)).addresses.pull
    if not isinstance(url, str):
        raise BadRequest("expected an address or a path", field="url")
    url = check_url(pull + url if url.startswith("/") else url)
    if not url.startswith(f"{pull}/"):
        raise BadRequest(f"expected an address that begins with {pull}/", field="url")
    parameters = signer.sign(resource_of(url) if conditions.custom else url, conditions)
    return _answer(signed_url(url, parameters), parameters, conditions)


async def _read_request(request: web.Request) -> tuple[CloudFrontSigner, dict[str, Any], SigningConditions]:
    """Returns the signer, the body and its conditions. Raises Missing without a key, BadRequest, InvalidField."""
    context = request.app[CONTEXT]
    body = await json_object(request)
    signer = request.app.get(SIGNER)
    if signer is None:
        raise Missing("this node signs nothing: set cloudfront.private_key and cloudfront.key_pair_id")
    before = _time(body, "expires")
    if before is None:
        before = int(context.clock() + context.address_defaults.sign_ttl)
    network, policy = text_of(body, "ip", default=""), text_of(body, "policy", default="")
    return signer, body, SigningConditions.of(before, _time(body, "from"), network, policy)


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
