"""The request that brings a message to a web service, in the form that the service documents."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from gateway.alarms.fault import AlarmMessage
from gateway.channels.message_target import Target
from gateway.lib.rfc3339 import rfc3339

BASES: Final = {
    "slack": "https://hooks.slack.com",
    "discord": "https://discord.com",
    "telegram": "https://api.telegram.org",
}
_DISCORD_MOST: Final = 2_000  # characters of `content`
_SUPPRESS_EMBEDS: Final = 1 << 2
_MARKDOWN: Final = re.compile(r"([\\*_~`|<>\[\]()#@-])")


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request with a JSON body."""

    method: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def request(target: Target, message: AlarmMessage) -> WebRequest:
    """Returns the request to the service of a target, or to an address of the web."""
    return _SERVICES[target.service](target, message)


def base(target: Target) -> str:
    """Returns scheme and host of the service."""
    return BASES.get(target.service) or f"{'http' if target.tls == 'none' else 'https'}://{target.host}"


def _slack(target: Target, message: AlarmMessage) -> WebRequest:
    # docs.slack.dev/messaging/formatting-message-text: "&", "<" and ">" are escaped; without "<" nobody is mentioned.
    text = message.whole.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    picture = [{"fallback": message.title, "image_url": message.picture}] if message.picture else []
    body = {"text": text, "mrkdwn": False} | ({"attachments": picture} if picture else {})
    return WebRequest("POST", f"/services/{'/'.join(target.parts)}", body)


def _discord(target: Target, message: AlarmMessage) -> WebRequest:
    # docs.discord.com/developers/resources/webhook#execute-webhook; with `wait`, a refusal is an error.
    text = "\n".join(_MARKDOWN.sub(r"\\\1", part) for part in (f"{message.title}\n{message.text}",))
    content = "\n".join(part for part in (text[: _DISCORD_MOST - len(message.link) - 1], message.link) if part)
    body: dict[str, Any] = {"content": content, "allowed_mentions": {"parse": []}}
    body |= {"embeds": [{"image": {"url": message.picture}}]} if message.picture else {"flags": _SUPPRESS_EMBEDS}
    return WebRequest("POST", f"/api/webhooks/{'/'.join(target.parts)}?wait=true", body)


def _telegram(target: Target, message: AlarmMessage) -> WebRequest:
    # core.telegram.org/bots/api#sendmessage; without `parse_mode` the text has no markup.
    bot, chat = target.parts
    preview = {"url": message.picture, "prefer_large_media": True} if message.picture else {"is_disabled": True}
    body = {"chat_id": chat, "text": message.whole, "link_preview_options": preview}
    return WebRequest("POST", f"/bot{bot}/sendMessage", body)


def _ntfy(target: Target, message: AlarmMessage) -> WebRequest:
    # docs.ntfy.sh/publish/#publish-as-json
    priority = 4 if message.state == "begun" and not message.is_show else 3
    body = {"topic": target.parts[0], "title": message.title, "message": message.text, "priority": priority}
    token = target.user if not target.password else ""
    body |= {name: text for name, text in (("click", message.link), ("attach", message.picture)) if text}
    return WebRequest("POST", "/", body, _login(target, token))


def _matrix(target: Target, message: AlarmMessage) -> WebRequest:
    # spec.matrix.org, client-server API: PUT /rooms/{roomId}/send/{eventType}/{txnId}; a repeated txnId is one event.
    room = quote(target.parts[0], safe="")
    body = {"msgtype": "m.text", "body": message.whole, "m.mentions": {}}
    path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{message.id}"
    return WebRequest("PUT", path, body, _login(target, target.user))


def _webhook(target: Target, message: AlarmMessage) -> WebRequest:
    body = {
        "id": message.id,
        "type": "show" if message.is_show else "alarm",
        "time": rfc3339(message.time),
        "channel": message.channel,
    }
    return WebRequest("POST", target.parts[0], {**body, "data": message.as_json()}, _login(target))


def _login(target: Target, token: str = "") -> dict[str, str]:
    if token:
        return {"Authorization": f"Bearer {token}"}
    if not target.user:
        return {}
    from aiohttp import encode_basic_auth

    return {"Authorization": encode_basic_auth(target.user, target.password)}


_SERVICES: Final[dict[str, Callable[[Target, AlarmMessage], WebRequest]]] = {
    "slack": _slack,
    "discord": _discord,
    "telegram": _telegram,
    "ntfy": _ntfy,
    "matrix": _matrix,
    "webhook": _webhook,
}
