"""A strict double of EC2 with only DescribeNetworkInterfaces, including the public names that moto's tasks lack."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import web
from aiohttp.test_utils import TestServer

_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[A-Z0-9]+/[0-9]{8}/[a-z0-9-]+/ec2/aws4_request, "
    r"SignedHeaders=\S+, Signature=[0-9a-f]{64}"
)
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass
class Ec2:
    """Answers about network interfaces.

    names: public DNS names by interface id; "" without a public address. address: a public address without a DNS name.
    broken: the number of first answers that are HTTP 503.
    """

    url: str = ""
    names: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl(await request.text(), strict_parsing=True))
        if not _SIGNED.fullmatch(request.headers.get("Authorization", "")):
            return _error(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
        if (form.get("Action"), form.get("Version")) != ("DescribeNetworkInterfaces", "2016-11-15"):
            return _error(400, "InvalidAction", f"{form.get('Action')} of {form.get('Version')}")
        if unknown := set(form) - {"Action", "Version", "NetworkInterfaceId.1"}:
            return _error(400, "UnknownParameter", ", ".join(sorted(unknown)))
        interface = form.get("NetworkInterfaceId.1", "")
        self.asked.append(interface)
        self.broken -= 1
        if self.broken >= 0:
            return _error(503, "RequestLimitExceeded", "Request limit exceeded.")
        if not re.fullmatch(r"eni-[0-9a-f]{8}(?:[0-9a-f]{9})?", interface):
            return _error(400, "InvalidNetworkInterfaceId.Malformed", f"Invalid id: {interface}")
        if interface not in self.names:
            return _error(
                400, "InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{interface}' does not exist"
            )
        return _xml(200, _described(interface, self.names[interface]))


def _described(interface: str, name: str) -> str:
    association = ""
    if name:
        numbers = re.findall(r"[0-9]+", name)
        address = ".".join(numbers[:4])
        dns = "" if name == address else f"<publicDnsName>{escape(name)}</publicDnsName>"
        association = f"<association><publicIp>{address}</publicIp>{dns}<ipOwnerId>amazon</ipOwnerId></association>"
    return (
        f'<DescribeNetworkInterfacesResponse xmlns="{_NAMESPACE}"><requestId>r-1</requestId><networkInterfaceSet><item>'
        f"<networkInterfaceId>{interface}</networkInterfaceId><status>in-use</status>"
        f"<privateIpAddress>10.0.2.106</privateIpAddress>{association}"
        "</item></networkInterfaceSet></DescribeNetworkInterfacesResponse>"
    )


def _error(status: int, code: str, message: str) -> web.Response:
    return _xml(
        status,
        f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
        "<RequestID>r-1</RequestID></Response>",
    )


def _xml(status: int, body: str) -> web.Response:
    return web.Response(status=status, text=f'<?xml version="1.0"?>{body}', content_type="text/xml")


@contextlib.asynccontextmanager
async def ec2() -> AsyncIterator[Ec2]:
    """Runs EC2 on a free port, for AWS_ENDPOINT_URL_EC2."""
    made = Ec2()
    app = web.Application()
    app.router.add_post("/", made.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made
