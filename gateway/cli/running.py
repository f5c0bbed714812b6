"""`millrace status`, `streams`, `nodes`, `events`, `kick` and `api`: ask a running gateway through its API."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import quote

import typer

from gateway.cli import common

if TYPE_CHECKING:
    import ssl

    from gateway.cli.api_client import Api
    from gateway.settings import Settings

_FOLLOW_SECONDS: Final = 1.0
_LATE_SECONDS: Final = 5.0  # events of other nodes may be listed this much later than newer ones
_PAGE: Final = 1_000  # events of one answer, the most that the API gives

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The admin listener, such as https://host:8000; default: here."),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="The admin token. Other users of this machine can see it: MILLRACE_ADMIN__TOKEN and the prompt are safer.",
    ),
]


def open_api(sources: common.Sources, url: str | None, token: str | None) -> Api:
    """Returns the API of the options, else of the settings. Asks a person for a missing token."""
    import asyncio

    from gateway.adapters.secret_resolver import resolve_secrets
    from gateway.cli.api_client import Api

    settings = sources.settings()
    base = (url or _local_address(settings)).rstrip("/")
    if not base.startswith(("http://", "https://")):
        common.fail(common.USAGE, f"--url {common.plain(base)}: expected http://host:port or https://host:port")
    found = token or asyncio.run(resolve_secrets(settings)).admin.token.get_secret_value()
    if not found and sys.stdin.isatty():
        found = typer.prompt(f"Admin token of {base}", hide_input=True, err=True)
    if not found or not found.isascii() or not found.isprintable():
        common.fail(common.USAGE, "the admin token is needed: set MILLRACE_ADMIN__TOKEN, or give --token")
    return Api(base, found, _tls(settings, base, local=url is None))


def _local_address(settings: Settings) -> str:
    from gateway.adapters.local.host import known_ports
    from gateway.lib.network import own_listener, url_host

    host = url_host(own_listener(settings.admin.host))
    return f"{'https' if settings.admin.tls else 'http'}://{host}:{known_ports(settings)['admin']}"


def _tls(settings: Settings, base: str, *, local: bool) -> ssl.SSLContext | None:
    """Returns the context for https. The own gateway is known by its certificate file, whatever its name."""
    if not base.startswith("https:"):
        return None
    import ssl

    from gateway.adapters.local.host import certificate_files

    context = ssl.create_default_context()
    if settings.tls.ca is not None:
        context.load_verify_locations(settings.tls.ca)
    certificate, _ = certificate_files(settings)
    if local and certificate is not None and certificate.is_file():
        context.load_verify_locations(certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return context


def status(
    sources: common.Sources, url: UrlOption = None, token: TokenOption = None, as_json: common.JsonOption = False
) -> None:
    """Print the state of a running gateway. It has version, traffic, disk, and what is missing."""
    found = open_api(sources, url, token).ask("GET", "/status")
    if as_json:
        common.print_json(found)
        return
    disk = found["disk"]
    common.print_table(
        [
            ("version", found["version"]),
            ("up", _duration(found["uptime"])),
            ("ready", "yes" if found["ready"] else "no"),
            *(("missing", name) for name in found["missing"]),
            ("streams", str(found["streams"])),
            ("publishers", str(found["publishers"])),
            ("viewers", str(sum(found["viewers"].values()))),
            ("cpu", f"{found['cpu']['percent']} %"),
            ("disk", f"{disk['free'] / 1e9:.1f} of {disk['total'] / 1e9:.1f} GB free"),
        ]
    )


def streams(
    sources: common.Sources, url: UrlOption = None, token: TokenOption = None, as_json: common.JsonOption = False
) -> None:
    """Print the streams that are live on all nodes. A line has bitrate, viewers, publisher and faults."""
    found = open_api(sources, url, token).ask("GET", "/videostreams/online")
    if as_json:
        common.print_json(found)
        return
    rows = [
        (
            stream["id"],
            stream["state"],
            f"{stream['bitrate'] / 1000:.0f} kbit/s",
            str(sum(stream["viewers"].values())),
            _publisher(stream["publisher"]),
            ",".join(finding["code"] for finding in stream.get("health", ())) or "-",
            stream.get("videoname", ""),
        )
        for stream in found
    ]
    common.print_rows(("ID", "STATE", "BITRATE", "VIEWERS", "PUBLISHER", "HEALTH", "NAME"), rows)


def _publisher(publisher: dict[str, Any] | None) -> str:
    return f"{publisher['protocol']} {publisher['address']}" if publisher else "-"


def nodes(
    sources: common.Sources, url: UrlOption = None, token: TokenOption = None, as_json: common.JsonOption = False
) -> None:
    """Print the nodes of the fleet with their load."""
    found = open_api(sources, url, token).ask("GET", "/nodes")
    if as_json:
        common.print_json(found)
        return
    columns = ("NODE", "ROLE", "ADDRESS", "SITE", "UP", "CPU", "FREE", "STREAMS", "VIEWERS", "OUT")
    common.print_rows(columns, [*map(_node, found)])


def _node(node: dict[str, Any]) -> tuple[str, ...]:
    free = node.get("free")
    about = (node["node"] or "-", node["role"], node["address"] or "-", node.get("site") or "-")
    if not node["answers"]:
        return (*about, "does not answer", *("-" * 5))
    return (
        *about,
        _duration(node["uptime"]),
        f"{node['cpu']['percent']} %",
        f"{free['percent']} %" if free else "-",
        str(node["streams"]),
        str(sum(node["viewers"].values())),
        f"{node['bytesOut'] / 1e9:.1f} GB",
    )


def kick(
    sources: common.Sources,
    id: Annotated[str, typer.Argument(metavar="ID", help="The channel.")],
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """End the push of a channel and disconnect its viewers. The key stays valid, so an encoder may connect again."""
    found = open_api(sources, url, token).ask("DELETE", f"/videostream/{quote(id, safe='')}/session")
    if as_json:
        common.print_json(found)
    else:
        typer.echo(common.plain(f"ended the stream of {id}"))


def api(
    sources: common.Sources,
    method: Annotated[Literal["GET", "POST", "PUT", "DELETE"], typer.Argument(metavar="METHOD", case_sensitive=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Path and query, such as /videostreams?limit=5.")],
    body: Annotated[str | None, typer.Argument(metavar="BODY", help="JSON. -: from standard input.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Send a request to the API, and print the answer.

    docs/api.md has the requests. The command asks a person for a missing admin token.
    """
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        common.fail(common.USAGE, f"{common.plain(path)}: expected a path, such as /status")
    sent = None if body is None else sys.stdin.buffer.read() if body == "-" else os.fsencode(body)
    found = open_api(sources, url, token).send(method, path, sent)
    try:
        common.print_json(json.loads(found))
    except ValueError:
        typer.echo(found, nl=False)


def events(
    sources: common.Sources,
    channel: Annotated[str | None, typer.Option("--channel", metavar="ID", help="Only events of this channel.")] = None,
    type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only events of this type, such as stream.started.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_PAGE, help="The number of events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new events too, until Ctrl-C.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Print the latest events of all nodes, the newest last. With --follow --json, each line is one event."""
    api = open_api(sources, url, token)
    query = {name: value for name, value in (("channel", channel), ("type", type)) if value}
    # The earlier events are known too, because the next request asks for some of them again.
    found = api.ask("GET", "/events", {**query, "limit": _PAGE if follow else limit})
    shown = found[:limit][::-1]
    if as_json and not follow:
        common.print_json(shown)
        return
    _print_events(shown, as_json)
    if follow:
        _follow(api, query, found, as_json)


def _follow(api: Api, query: dict[str, str], known: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Prints new events until Ctrl-C. A gateway that restarts is asked again. known: the newest first."""
    from gateway.cli.api_client import NoAnswer, Unavailable

    seen = deque((event["id"] for event in reversed(known)), maxlen=2 * _PAGE)
    since, failure = _since(time.time(), known), ""
    while True:
        time.sleep(_FOLLOW_SECONDS)
        asked = time.time()
        try:
            found = api.ask("GET", "/events", {**query, "since": since, "limit": _PAGE})
        except (NoAnswer, Unavailable) as error:
            if failure != str(error):
                failure = str(error)
                typer.echo(f"millrace: {failure}", err=True)
            continue
        new = [event for event in reversed(found) if event["id"] not in seen]
        if len(new) == _PAGE:
            typer.echo(f"millrace: only the last {_PAGE} events are printed", err=True)
        seen.extend(event["id"] for event in new)
        since, failure = _since(asked, found), ""
        _print_events(new, as_json)


def _since(asked: float, found: Sequence[dict[str, Any]]) -> float:
    """Returns the time from which the next request asks. found: the newest first.

    The clocks of this machine and of the nodes may differ, so the earlier of two times counts.
    """
    if not found:
        return 0.0
    return min(asked, datetime.fromisoformat(found[0]["time"]).timestamp()) - _LATE_SECONDS


def _print_events(found: Iterable[dict[str, Any]], as_json: bool) -> None:
    for event in found:
        if as_json:
            typer.echo(common.json_text(event))
            continue
        data = " ".join(f"{name}={value}" for name, value in event["data"].items() if name != "stream")
        typer.echo(common.plain(f"{event['time']}  {event['type']:<17}  {event['channel'] or '-'}  {data}"))
    sys.stdout.flush()


def _duration(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86_400)
    return (f"{days} d " if days else "") + time.strftime("%H:%M:%S", time.gmtime(rest))
