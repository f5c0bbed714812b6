"""The user and password of a server that wants them in `connect`, in the modes of Adobe and of Limelight.

No specification has these modes; servers agree with what ffmpeg sends. The server refuses `connect` twice, and the
client connects again each time: the first refusal names the mode, the second one has the values for the response.
"""

import hashlib
from base64 import b64encode
from dataclasses import replace
from typing import Final

from gateway.protocols.rtmp.url import RtmpUrl

# Text of a refusal after which another connection does not help.
WRONG: Final = "the server wants a user name and a password, or they are wrong"
_MODE: Final = "authmod="
_COUNT: Final = "00000001"  # of the responses to one nonce


def is_demand(refusal: str) -> bool:
    """Whether the description of a refusal is about user and password."""
    return _MODE in refusal


def answer(url: RtmpUrl, refusal: str, nonce: str) -> RtmpUrl | None:
    """Returns the address for the next connection; None: user and password are missing or wrong.

    url: of the refused connection. refusal: a description for which `is_demand`. nonce: random hexadecimal digits.
    """
    mode = refusal.partition(_MODE)[2].partition(" ")[0].rstrip("]")
    if mode not in ("adobe", "llnw") or not url.user:
        return None
    first = f"?{_MODE}{mode}&user={url.user}"
    if "code=403 need auth" in refusal and not url.authentication:
        return replace(url, authentication=first)
    values = refusal.partition("?reason=needauth&")[2].partition(" ")[0]
    if not values or url.authentication != first:
        return None
    fields = {name: value for name, _, value in (pair.partition("=") for pair in values.split("&"))}
    respond = _adobe_response if mode == "adobe" else _llnw_response
    return replace(url, authentication=first + respond(url, fields, nonce))


def _adobe_response(url: RtmpUrl, fields: dict[str, str], nonce: str) -> str:
    opaque = fields.get("opaque", "")
    secret = b64encode(_md5(url.user + fields.get("salt", "") + url.password)).decode()
    response = b64encode(_md5(secret + (opaque or fields.get("challenge", "")) + nonce)).decode()
    return f"&challenge={nonce}&response={response}" + (f"&opaque={opaque}" if opaque else "")


def _llnw_response(url: RtmpUrl, fields: dict[str, str], nonce: str) -> str:
    """Returns the response of Digest with the quality "auth". The method is "publish", also to play."""
    app = url.app.partition("?")[0]
    path = app if "/" in app else f"{app}/_definst_"
    given = fields.get("nonce", "")
    secret, request = _md5(f"{url.user}:live:{url.password}").hex(), _md5(f"publish:/{path}").hex()
    response = _md5(f"{secret}:{given}:{_COUNT}:{nonce}:auth:{request}").hex()
    return f"&nonce={given}&cnonce={nonce}&nc={_COUNT}&response={response}"


def _md5(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()
