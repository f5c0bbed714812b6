"""Parses RTMP addresses `rtmp[s]://host[:port]/app[/instance]/name[?query]`, and stream names in commands."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

PORTS = {"rtmp": 1935, "rtmps": 443}
_MAX_PARAMETERS = 32
_FILE_TYPE: Final = re.compile(r"\A(?:mp4|flv|mp3|f4v):")
_SERVER: Final = re.compile(r"\Artmps?://[^/]*/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RtmpUrl:
    """The parts of an address.

    app: all path segments except the last one, including the instance.
    name: the last path segment, with its query.
    user, password: for servers that want them; "" if the address has none.
    authentication: the parameters behind the app that send them; "" until a server wants them.
    """

    secure: bool
    host: str
    port: int
    app: str
    name: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    authentication: str = field(default="", repr=False)

    @property
    def tc_url(self) -> str:
        """The value of tcUrl in `connect`: the address without the name and without a default port."""
        scheme = "rtmps" if self.secure else "rtmp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[scheme] else f":{self.port}"
        return f"{scheme}://{host}{port}/{self.app}{self.authentication}"

    def __str__(self) -> str:
        """Returns the address without its query. Shortens the name, because it is often the key."""
        name = self.name.partition("?")[0]
        short = name if len(name) <= 4 else f"{name[:4]}…"
        return f"{self.tc_url.partition('?')[0]}/{short}"


def parse_url(url: str) -> RtmpUrl:
    """Parses an address. Raises ValueError with the reason and without the key.

    A single path segment is the app. Then the name is empty, or follows the query of the app. Otherwise the last
    segment is the name, and the rest is the app. The query of a name may contain slashes.
    """
    parts = urlsplit(url.strip(), allow_fragments=False)
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise ValueError(f"scheme {parts.scheme!r}: expected rtmp or rtmps")
    if not parts.hostname:
        raise ValueError("the address has no host")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port is not a number from 1 to 65535")
    path = parts.path.strip("/")
    app, _, name = path.rpartition("/")
    if not app:
        app, name = name, ""
    if not app:
        raise ValueError("the address has no app: expected rtmp://host/app/name")
    if not name and "/" in parts.query:  # the query of the app, then the name: "app?sign=1-a/id"
        query, _, name = parts.query.rpartition("/")
        app = f"{app}?{query}"
    elif parts.query:
        name = f"{name}?{parts.query}"
    if any(ord(c) < 32 for c in url):
        raise ValueError("the address has control characters")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return RtmpUrl(scheme == "rtmps", parts.hostname, port or PORTS[scheme], app, name, user, password)


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """The stream that a client asks for.

    name: without its query.
    query: parameters of the name, the app and tcUrl, such as `sign`. If one is repeated, its first value counts.
    """

    app: str
    instance: str
    name: str
    query: dict[str, str] = field(repr=False)


def resolve(app_field: str, tc_url: str, name_field: str) -> StreamTarget:
    """Parses the fields `app`, `tcUrl` and the stream name of an encoder.

    Known forms: `stream` + `id?sign=…`; `stream?sign=…` + `id`; `stream/inst` + `id?sign=…`; `stream/id?sign=…` as app
    with an empty name. In the last form, the second segment is the name and not an instance. Encoders also write a file
    type before the name (`mp4:id`), escape its question mark, end it with a slash, and send the whole address as name.
    """
    name_field = name_field.strip()
    if "?" not in name_field and "%3F" in name_field.upper():
        name_field = unquote(name_field)
    if (server := _SERVER.match(name_field)) is not None:
        app_field, name_field = name_field[server.end() :], ""
    app_path, _, app_query = app_field.partition("?")
    name, _, name_query = name_field.partition("?")
    name = _FILE_TYPE.sub("", name)
    app, _, instance = app_path.strip("/ ").partition("/")
    instance = instance.strip("/")
    name = name.strip("/")
    if not name and instance:
        instance, _, name = instance.rpartition("/")
    elif not name and "/" in app_query:
        name = app_query.rpartition("/")[2]
    query: dict[str, str] = {}
    for text in (name_query, app_query, tc_url.partition("?")[2]):
        # The name may follow a query in the app ("stream?sign=1-a/id"). A signature contains no slash.
        for key, value in _parameters(text.split("/", 1)[0] if text is not name_query else text):
            query.setdefault(key, value.rstrip("/") if key == "sign" else value)
    return StreamTarget(app, instance, name, query)


def app_allowed(app_field: str, apps: Collection[str]) -> bool:
    """Whether the app is one of `apps`, without its instance and query."""
    return app_field.partition("?")[0].strip("/ ").partition("/")[0] in apps


def _parameters(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:  # too many fields: the query is ignored, including `sign`
        return []
