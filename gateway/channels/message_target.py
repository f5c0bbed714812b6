"""The address of a target for messages to people: it names a service, and has what it needs, with its secrets."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

from gateway.channels import relay_urls
from gateway.lib.network import url_host

MASK: Final = relay_urls.MASK
MAX_LENGTH: Final = 2_048
MAX_RECIPIENTS: Final = 10

_MIN_SECRET: Final = 4  # characters of a value in a query; shorter ones would mask words of an answer
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
_BOT: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,128}", re.ASCII)
_CHAT: Final = re.compile(r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}", re.ASCII)
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)  # ntfy: "Topic names may be up to 64 characters"
_ROOM: Final = re.compile(r"![A-Za-z0-9._~=/+:\[\]-]{1,255}", re.ASCII)
# Only plain addresses: quoted local parts and spaces could carry SMTP commands or more header fields.
_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", re.ASCII)
# Where services give their users an address of the web, people paste it.
_PASTED: Final = {
    "hooks.slack.com": ("/services/", "slack"),
    "discord.com": ("/api/webhooks/", "discord"),
    "discordapp.com": ("/api/webhooks/", "discord"),
}


class DeliveryFailed(Exception):
    """A target did not accept a message. is_final: another attempt has the same result. The message is one line."""

    def __init__(self, message: str, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed address.

    service: its scheme; "webhook" for an address of the web.
    shown: the address without its secrets. All that is not secret stays, so that it cannot pass for another address.
    host: with the port, in the form of URLs; "" for a service with one known host.
    parts: what the service needs, decoded. secrets: texts that no answer and no log may contain.
    """

    service: str
    shown: str
    host: str
    parts: tuple[str, ...] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    tls: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


def parse(text: str) -> Target:
    """Returns the target of an address. Raises ValueError with a sentence for the user."""
    if len(text) > MAX_LENGTH or not text.isprintable() or not text.isascii() or re.search(r"[\s\\<>\"]", text):
        raise ValueError(f"expected an address of at most {MAX_LENGTH} characters without spaces")
    try:
        parts = urlsplit(text)
        if parts.scheme in ("https", "http"):
            prefix, service = _PASTED.get(parts.hostname or "", ("", ""))
            if service and parts.path.startswith(prefix):
                parts = urlsplit(f"{service}://{parts.path.removeprefix(prefix)}")
        parser = _PARSERS[parts.scheme]
    except (KeyError, ValueError):
        raise ValueError(f"expected an address with {', '.join(f'{s}://' for s in _PARSERS)}") from None
    return parser(parts)


def _smtp(parts: SplitResult) -> Target:
    host, port = _host(parts)
    query = _options(parts, "from", "to", "tls")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.path.strip("/"):
        raise ValueError("expected nothing between the mail server and “?”")
    recipients = tuple(address.strip() for address in query.get("to", "").split(","))
    if not 0 < len(recipients) <= MAX_RECIPIENTS or not all(map(_is_mail, (query.get("from", ""), *recipients))):
        raise ValueError("expected from=<mail address>&to=<mail address>; more receivers with commas")
    tls = query.get("tls", "")
    if tls not in ("", "none", "starttls", "tls"):
        raise ValueError("expected tls=none, tls=starttls or tls=tls")
    port = port or {"tls": 465, "none": 25, "starttls": 587}.get(tls, 587 if user else 25)
    where = f"{url_host(host)}:{port}"
    addresses = (query["from"], *recipients)
    return Target("smtp", _shown(parts, ""), where, addresses, _secrets(password), tls, user, password)


def _slack(parts: SplitResult) -> Target:
    tokens = _tokens(parts, 3, "slack://<T…>/<B…>/<token>, the end of the webhook's address")
    return Target("slack", f"slack://{tokens[0]}/{tokens[1]}/{MASK}", "", tokens, tokens[2:])


def _discord(parts: SplitResult) -> Target:
    tokens = _tokens(parts, 2, "discord://<webhook id>/<token>, the end of the webhook's address")
    return Target("discord", f"discord://{tokens[0]}/{MASK}", "", tokens, tokens[1:])


def _telegram(parts: SplitResult) -> Target:
    bot, chat = parts.netloc, unquote(parts.path.strip("/"))
    if not _BOT.fullmatch(bot) or not _CHAT.fullmatch(chat):
        raise ValueError("expected telegram://<bot id>:<token>/<chat id>")
    id, _, token = bot.partition(":")
    return Target("telegram", f"telegram://{id}:{MASK}/{chat}", "", (bot, chat), (token,))


def _ntfy(parts: SplitResult) -> Target:
    topic = unquote(parts.path.strip("/"))
    bare = not topic  # ntfy://topic
    if bare:
        parts = urlsplit(f"ntfy://ntfy.sh/{parts.netloc}")
        topic = parts.path.strip("/")
    host, port = _host(parts)
    if not _TOPIC.fullmatch(topic):
        raise ValueError("expected ntfy://<topic> or ntfy://[user:password@|token@]<host>/<topic>")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    # "the topic is essentially a password" (docs.ntfy.sh/publish)
    secrets = (topic, *_secrets(password or user))
    shown = f"ntfy://{MASK}" if bare else _shown(parts, f"/{MASK}")
    return Target("ntfy", shown, _where(host, port), (topic,), secrets, _tls(parts), user, password)


def _matrix(parts: SplitResult) -> Target:
    host, port = _host(parts)
    room, token = unquote(parts.path.strip("/")), unquote(parts.username or "")
    if not token or not _TOKEN.fullmatch(token.replace(".", "")) or not _ROOM.fullmatch(room):
        raise ValueError("expected matrix://<access token>@<host>/<room id>; room ids begin with “!”")
    return Target("matrix", _shown(parts, parts.path), _where(host, port), (room,), (token,), _tls(parts), token)


def _web(parts: SplitResult) -> Target:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    whole_path = parts.path or "/"
    named = whole_path.rstrip("/")  # the secret is the last part before it
    path, _, last = named.rpartition("/")
    host, port = _host(parts)
    values = (value for _, value in parse_qsl(parts.query) if len(value) >= _MIN_SECRET)
    secrets = tuple(secret for secret in (password or user, last, parts.query, *values) if secret)
    shown_path = f"{path}/{MASK}{whole_path[len(named) :]}" if last else whole_path
    shown = _shown(parts, shown_path, MASK if parts.query else "")
    whole = f"{whole_path}{'?' + parts.query if parts.query else ''}"
    tls = "tls" if parts.scheme == "https" else "none"
    return Target("webhook", shown, _where(host, port), (whole,), secrets, tls, user, password)


_PARSERS: Final = {
    "smtp": _smtp,
    "slack": _slack,
    "discord": _discord,
    "telegram": _telegram,
    "ntfy": _ntfy,
    "matrix": _matrix,
    "https": _web,
    "http": _web,
}


def _host(parts: SplitResult) -> tuple[str, int | None]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise ValueError("expected a host, optionally with a port from 1 to 65535")
    return host, port


def _where(host: str, port: int | None) -> str:
    return url_host(host) + (f":{port}" if port else "")


def _tls(parts: SplitResult) -> str:
    """Returns "none" or "tls", for a server of one's own."""
    tls = _options(parts, "tls").get("tls", "tls")
    if tls not in ("none", "tls"):
        raise ValueError("expected tls=none or tls=tls")
    return tls


def _shown(parts: SplitResult, path: str, query: str | None = None) -> str:
    """Returns an address with a masked password, or with a masked user without a password. query: None: as it is."""
    user, _, where = parts.netloc.rpartition("@")
    name, colon, _password = user.partition(":")
    shown_user = (
        f"{name}:{MASK}@" if colon else f"{MASK}@" if user and parts.scheme != "smtp" else f"{user}@" if user else ""
    )
    query = parts.query if query is None else query
    return f"{parts.scheme}://{shown_user}{where}{path}{'?' + query if query else ''}"


def _options(parts: SplitResult, *known: str) -> dict[str, str]:
    found = parse_qs(parts.query, keep_blank_values=True, max_num_fields=10)
    if unknown := [name for name in found if name not in known]:
        raise ValueError(f"unknown parameter {unknown[0][:40]}; known: {', '.join(known)}")
    return {name: values[-1] for name, values in found.items()}


def _tokens(parts: SplitResult, count: int, form: str) -> tuple[str, ...]:
    tokens = tuple(part for part in f"{parts.netloc}/{parts.path}".split("/") if part)
    if len(tokens) != count or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError(f"expected {form}")
    return tokens


def _secrets(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _is_mail(address: str) -> bool:
    return _MAIL.fullmatch(address) is not None
