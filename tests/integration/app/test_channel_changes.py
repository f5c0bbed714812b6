"""Each way to change a channel has each effect on its live stream within 5 s; a change by the API at once.

The ways: the API of the node with the stream, of another node and of another process, commands, and programs that write
to the store. Each way changes three live channels: one stays, the key of one expires, one is deleted.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from gateway.__main__ import main
from gateway.adapters.aws.attributes import to_item
from gateway.channels.channel import COMPUTED
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject
from tests.support.clients import Program, push, until
from tests.support.cores import Cores
from tests.support.fleet import end, started
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Edge, Gateway, http
from tests.support.ivs import ivs_api
from tests.support.media import Film
from tests.support.postgres import Postgres
from tests.support.srt import call
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.watching import FlvViewer

FILM = Film("channel changes", seconds=10)
SECONDS = 5.0  # the contract's bound
# A node that does not know a change reads all channels every 15 s (docs/api.md, "SRT"); a busy machine needs longer.
PORT_SECONDS = 30.0
AT_ONCE = 2.5  # on a busy machine; less than a read of the store takes to come
SECRET = "what the keys are signed with"
SHARED = {
    "MILLRACE_SIGNING__SECRET": SECRET,
    "MILLRACE_CLUSTER__SECRET": "what the nodes share",
    "MILLRACE_STREAM__END_AT_EXPIRY": "true",
    "MILLRACE_LIMITS__REFUSALS_PER_MINUTE": "0",
}
LATER, PAST = 2_100_000_000, 1_500_000_000  # expiries of keys
# What each way sets. The key goes with the expiry.
CHANGED = {
    "playAuth": "sign",
    "refererAllow": ["good.example"],
    "isHls": False,
    "isVideo": True,
    "isRelay": True,
    "relayURL": "rtmp://127.0.0.1:1/live/target",
    "isWaterMark": True,
    "WaterMarkText": "on air",
}


@dataclass(frozen=True)
class Way:
    """A way to change channels.

    by: the author of its events. update: sets fields. delete: deletes. bound: seconds until the effects.
    """

    by: str
    update: Callable[[Channel, Mapping[str, Any]], None]
    delete: Callable[[Channel], None]
    bound: float = SECONDS


@dataclass(frozen=True)
class Node:
    """The gateway that gets the pushes, the ways to change its channels, and other nodes with viewers.

    damage: makes the row of a channel unreadable.
    """

    holder: Gateway
    ways: Mapping[str, Way]
    others: Sequence[Gateway] = ()
    damage: Callable[[str], None] | None = None


StartNode: TypeAlias = Callable[[str], Node]


# ---- the ways ----


def by_api(gateway: Gateway, bound: float = AT_ONCE) -> Way:
    def ask(method: str, channel: Channel, body: Mapping[str, Any] | None = None) -> None:
        reply = gateway.api(method, f"/videostream/{channel.id}", body)
        assert reply.status == 200, reply.text

    return Way("admin token", lambda c, fields: ask("PUT", c, fields), lambda c: ask("DELETE", c), bound)


def by_command(settings: Mapping[str, str]) -> Way:
    def run(*arguments: str) -> None:
        assert millrace(settings, *arguments)[0] == 0

    def update(channel: Channel, fields: Mapping[str, Any]) -> None:
        texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in fields.items() if n != "outdate"}
        expires = ("--expires", str(fields["outdate"])) if "outdate" in fields else ()
        pairs = [option for name, text in texts.items() for option in ("--field", f"{name}={text}")]
        run("channel", "update" if pairs else "sign", channel.id, *expires, *pairs)

    return Way("command line", update, lambda channel: run("channel", "delete", channel.id))


def by_store(write: Callable[[str, Mapping[str, Any] | None], None]) -> Way:
    """write: replaces the row of a channel; None: removes it."""

    def update(channel: Channel, fields: Mapping[str, Any]) -> None:
        item = {name: value for name, value in channel.item.items() if name not in COMPUTED}
        expires = fields["outdate"]
        write(channel.id, {**item, **fields, "key": SigningSecrets(SECRET).sign(channel.id, int(expires))})

    return Way("store", update, lambda channel: write(channel.id, None))


def millrace(settings: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Runs a command in this process. Returns its exit code and its output."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(name, value)
        return main(list(arguments)), out.getvalue()


# ---- the nodes ----


def data_of(gateway: Gateway) -> dict[str, str]:
    return {**SHARED, "MILLRACE_DATA": str(gateway.data)}


def sqlite_row(gateway: Gateway) -> Way:
    def write(id: str, item: Mapping[str, Any] | None) -> None:
        with contextlib.closing(sqlite3.connect(gateway.data / "millrace.db", timeout=10)) as database, database:
            if item is None:
                database.execute("DELETE FROM channels WHERE id = ?", (id,))
            else:
                database.execute("UPDATE channels SET item = ? WHERE id = ?", (json.dumps(item), id))

    return by_store(write)


@contextlib.contextmanager
def alone(folder: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    with started(folder, 1, SHARED) as (gateway,):
        ways = {"API": by_api(gateway), "command": by_command(data_of(gateway)), "SQL": sqlite_row(gateway)}

        def damage(id: str) -> None:
            with contextlib.closing(sqlite3.connect(gateway.data / "millrace.db", timeout=10)) as database, database:
                latin = json.dumps({"id": id, "videoname": "café"}, ensure_ascii=False).encode("latin-1")
                database.execute("UPDATE channels SET item = CAST(? AS TEXT) WHERE id = ?", (latin, id))

        yield Node(gateway, ways, damage=damage)


@contextlib.contextmanager
def processes(folder: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    gateway = Cores(folder, 2, **SHARED)
    try:
        gateway.wait_ready()
        yield Node(gateway, {"any process": by_api(gateway), "command": by_command(data_of(gateway))})
    finally:
        end(gateway)


@contextlib.contextmanager
def postgres_fleet(folder: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database()
    settings = {**SHARED, "MILLRACE_DATABASE": url}

    def write(id: str, item: Mapping[str, Any] | None) -> None:
        row = "DELETE FROM channels" if item is None else f"UPDATE channels SET item = $json${json.dumps(item)}$json$"
        server.sql(f"{row} WHERE id = '{id}'", url.rpartition("/")[2])

    with started(folder, 2, settings) as (holder, other):
        (folder / "edge").mkdir()
        edge = Edge(folder / "edge", **settings)
        try:
            edge.wait_ready()
            until(lambda: len(other.api("GET", "/nodes").json()) == 3, "the nodes know each other")
            command = by_command({**settings, "MILLRACE_DATA": str(other.data)})
            ways = {"another node": by_api(other), "command": command, "SQL": by_store(write)}
            rename = "UPDATE channels SET item = 'nonsense' WHERE id = '{}'"
            yield Node(holder, ways, (other, edge), lambda id: server.sql(rename.format(id), url.rpartition("/")[2]))
        finally:
            end(edge)


@contextlib.contextmanager
def dynamo(folder: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    import boto3

    url = request.getfixturevalue("moto_url")
    settings = {
        **SHARED,
        "MILLRACE_CHANNELS": "dynamodb://changed-channels",
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    secrets = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "test"}
    client = boto3.client("dynamodb", region_name="eu-central-1", endpoint_url=url, **secrets)
    client.create_table(
        TableName="changed-channels",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def write(id: str, item: Mapping[str, Any] | None) -> None:
        if item is None:
            client.delete_item(TableName="changed-channels", Key={"id": {"S": id}})
        else:
            client.put_item(TableName="changed-channels", Item=to_item(item))

    with started(folder, 1, settings) as (gateway,):
        command = by_command({**settings, "MILLRACE_DATA": str(gateway.data)})
        yield Node(gateway, {"command": command, "console of AWS": by_store(write)})


NODES: Mapping[str, Callable[[Path, pytest.FixtureRequest], contextlib.AbstractContextManager[Node]]] = {
    "one gateway": alone,
    "two processes": processes,
    "PostgreSQL": postgres_fleet,
    "DynamoDB": dynamo,
}
WAYS: Sequence[tuple[str, str]] = (
    *(("one gateway", way) for way in ("API", "command", "SQL")),
    *(("two processes", way) for way in ("any process", "command")),
    *(("PostgreSQL", way) for way in ("another node", "command", "SQL")),
    *(("DynamoDB", way) for way in ("command", "console of AWS")),
)
# A command writes to the store like any other program, and the API of a process is that of one gateway.
EACH_TIME = (
    ("one gateway", "API"),
    ("two processes", "command"),
    ("PostgreSQL", "another node"),
    ("PostgreSQL", "SQL"),
    ("DynamoDB", "console of AWS"),
)
CHANGES = [way if way in EACH_TIME else pytest.param(way, marks=pytest.mark.nightly) for way in WAYS]
DELETIONS = [
    *(("one gateway", way) for way in ("API", "command")),
    *(pytest.param(("PostgreSQL", way), marks=pytest.mark.nightly) for way in ("another node", "command")),
]


@pytest.fixture(scope="module")
def started_nodes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[StartNode]:
    """Yields a function that returns a node by its name. Only the last one runs."""
    need("ffmpeg")
    FILM.path()
    with contextlib.ExitStack() as stack:
        running: dict[str, Node] = {}

        def start(name: str) -> Node:
            if name not in running:
                stack.close()
                running.clear()
                running[name] = stack.enter_context(NODES[name](tmp_path_factory.mktemp("changes"), request))
            return running[name]

        yield start


# ---- the effects ----


@dataclass(frozen=True)
class Live:
    """A live channel with a viewer. changed: the monotonic time at which its change was done."""

    channel: Channel
    push: Program
    viewer: FlvViewer
    changed: float
    way: Way

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits for an effect of the change, until its bound."""
        until(
            condition, f"{what}\n{self.channel.gateway.log[-3000:]}", self.changed + self.way.bound - time.monotonic()
        )

    def outputs(self) -> dict[str, bool]:
        return {output["name"]: output["enabled"] for output in self.channel.session()["outputs"]}

    def events(self, type: str) -> list[dict[str, Any]]:
        """Returns the events of this type, when also a late one must be there."""
        until(lambda: time.monotonic() > self.changed + SECONDS, "the time of an event has passed")
        found = self.channel.gateway.api("GET", f"/events?channel={self.channel.id}&type={type}").json()
        return [event["data"] for event in found]


@dataclass(frozen=True)
class Changed:
    """The channels after the changes of one way. port: the new `srtPort` of the one that stays."""

    stays: Live
    expired: Live
    deleted: Live
    others: Sequence[Gateway]
    port: int


@pytest.fixture(scope="module", params=CHANGES, ids=lambda way: ", ".join(way))
def changed(request: pytest.FixtureRequest, started_nodes: StartNode) -> Iterator[Changed]:
    name, way_name = request.param
    made = started_nodes(name)
    way = made.ways[way_name]
    with contextlib.ExitStack() as stack:
        channels = [made.holder.channel(isCMAF=False) for _ in range(3)]
        pushes = [stack.enter_context(push(FILM, channel.push, loop=True)) for channel in channels]
        viewers = []
        for channel in channels:
            channel.wait_playable("live.m3u8")
            viewers.append(stack.enter_context(FlvViewer(channel.url("live.flv"))))
        until(lambda: all(viewer.pictures for viewer in viewers), "everybody watches")
        for other in made.others:  # they cache the channel
            assert http("HEAD", Channel(other, channels[0].item).url("live.flv")).status != 403
        port = free_port()
        changes: list[Callable[[], None]] = [
            lambda: way.update(channels[0], {**CHANGED, "srtPort": port, "outdate": str(LATER)}),
            lambda: way.update(channels[1], {"outdate": str(PAST)}),
            lambda: way.delete(channels[2]),
        ]
        lives = []
        for change, channel, program, viewer in zip(changes, channels, pushes, viewers, strict=True):
            change()
            lives.append(Live(channel, program, viewer, time.monotonic(), way))
        yield Changed(*lives, made.others, port)


def play_sign(live: Live) -> str:
    return SigningSecrets(SECRET).sign(live.channel.id, LATER, SignatureUse.PLAY)


def status(live: Live, sign: str, page: str = "good.example") -> int:
    """Returns the status that a player on a web page gets."""
    # The answer to GET has no end while the stream is open.
    return http("HEAD", live.channel.url(f"live.flv{sign}"), headers={"Referer": f"https://{page}/"}).status


def test_new_viewers_need_a_sign(changed: Changed) -> None:
    live, sign = changed.stays, play_sign(changed.stays)
    live.until(lambda: status(live, "") == 403, "it is closed")
    assert status(live, f"?sign={sign}") != 403


def test_new_viewers_at_other_nodes_need_a_sign(changed: Changed) -> None:
    live = changed.stays
    for node in changed.others:
        url = Channel(node, live.channel.item).url("live.flv")
        seconds = live.changed + SECONDS - time.monotonic()
        until(lambda url=url: http("HEAD", url).status == 403, f"{url} is closed", seconds)


def test_other_pages_may_not_embed_the_stream(changed: Changed) -> None:
    live, sign = changed.stays, play_sign(changed.stays)
    live.until(lambda: status(live, f"?sign={sign}", "bad.example") == 403, "it is closed for the page")


def test_outputs_are_switched_on_and_off(changed: Changed) -> None:
    live = changed.stays
    live.until(lambda: (live.outputs()["hls"], live.outputs()["video"]) == (False, True), "outputs are switched")


def test_the_relay_begins(changed: Changed) -> None:
    changed.stays.until(lambda: changed.stays.outputs()["relay"], "the relay is on")


def test_the_watermark_begins(changed: Changed) -> None:
    changed.stays.until(lambda: changed.stays.outputs()["watermark"], "the watermark is on")


def test_encoders_without_a_stream_id_reach_the_channel_by_its_new_port(changed: Changed) -> None:
    def answers() -> bool:
        try:
            call(changed.port, "", 3.0).close()  # the publisher on air may prove first that it sends
        except HandshakeRefused as error:
            return error.code == Reject.CONFLICT
        except TimeoutError:
            return False
        return False

    live = changed.stays
    until(answers, "the port is open", live.changed + PORT_SECONDS - time.monotonic())


def test_the_old_key_pushes_no_more_and_the_running_push_goes_on(changed: Changed) -> None:
    live = changed.stays
    with push(FILM, live.channel.push) as second:
        second.process.wait(at_most(20))

    def revoked() -> bool:
        return any(refusal["reason"] == "revoked" for refusal in live.channel.session()["refusals"])

    until(revoked, "the refusal is told")  # the one for the occupied port may be told before
    assert live.push.running


def test_the_push_ends_at_the_new_expiry(changed: Changed) -> None:
    live = changed.expired
    live.until(lambda: not live.push.running and live.viewer.ended, "push and viewer are ended")


def test_a_deletion_ends_push_and_viewers(changed: Changed) -> None:
    live = changed.deleted
    live.until(lambda: not live.push.running and live.viewer.ended, "push and viewer are ended")


def test_the_change_and_the_deletion_have_one_event_each(changed: Changed) -> None:
    live, by = changed.stays, changed.stays.way.by
    (event,) = live.events("channel.changed")
    assert event["by"] == by and {*CHANGED, "srtPort"} < {*event["fields"]} <= {
        *CHANGED,
        "srtPort",
        "key",
        "outdate",
        "relayOff",
    }
    assert [event["by"] for event in changed.expired.events("channel.changed")] == [by]
    assert [event["by"] for event in changed.deleted.events("channel.deleted")] == [by]


def test_viewers_of_the_changed_channel_stay(changed: Changed) -> None:
    assert not changed.stays.viewer.ended


# ---- Amazon IVS, and rows that are no channels ----


@pytest.mark.nightly
def test_a_new_ivs_channel_becomes_a_relay_of_the_live_stream(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("ffmpeg")
    with started(tmp_path, 1, SHARED) as (gateway,), ivs_api(moto_url) as api:
        settings = {**data_of(gateway), "AWS_ENDPOINT_URL_IVS": api.url, "AWS_REGION": "eu-central-1"}
        settings |= {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
        channel = gateway.channel()
        with push(FILM, channel.push, loop=True):
            channel.wait_live()
            code, out = millrace(settings, "ivs", "create", "--name", "cam", "--channel", channel.id, "--json")
            done, arn = time.monotonic(), json.loads(out)["arn"]
            outputs = Live(channel, None, None, done, Way("", None, None))  # type: ignore[arg-type]
            outputs.until(lambda: outputs.outputs()["relay"], "the relay is on")
            assert code == 0
            assert millrace(settings, "ivs", "delete", arn, "--channel", channel.id)[0] == 0
            until(lambda: not outputs.outputs()["relay"], "the relay is off", SECONDS)
        (end_, begin) = gateway.api("GET", f"/events?channel={channel.id}&type=channel.changed").json()
        assert begin["data"]["by"] == end_["data"]["by"] == "command line"


def test_a_row_that_is_no_channel_stops_neither_its_stream_nor_the_changes_of_others(tmp_path: Path) -> None:
    need("ffmpeg")
    with started(tmp_path, 1, SHARED) as (gateway,):
        broken, other = gateway.channel(), gateway.channel()
        with push(FILM, broken.push, loop=True) as goes_on, push(FILM, other.push, loop=True):
            broken.wait_live()
            other.wait_live()
            with contextlib.closing(sqlite3.connect(gateway.data / "millrace.db", timeout=10)) as database, database:
                database.execute("UPDATE channels SET item = '{\"id\": ' WHERE id = ?", (broken.id,))
            by_command(data_of(gateway)).update(other, {"playAuth": "sign"})
            until(lambda: http("HEAD", other.url("live.flv")).status == 403, "the other is closed", SECONDS)
            assert goes_on.running and http("GET", broken.url("live.m3u8")).status == 200
            assert gateway.log.count("it cannot be read") == 1


@pytest.mark.parametrize("way", DELETIONS, ids=", ".join)
def test_the_deletion_of_a_row_that_cannot_be_read_has_all_effects(
    started_nodes: StartNode, way: tuple[str, str]
) -> None:
    node = started_nodes(way[0])
    channel = node.holder.channel(isCMAF=False)
    with push(FILM, channel.push, loop=True) as program:
        channel.wait_playable("live.m3u8")
        with FlvViewer(channel.url("live.flv")) as viewer:
            until(lambda: viewer.pictures, "somebody watches")
            assert node.damage is not None
            node.damage(channel.id)
            node.ways[way[1]].delete(channel)
            live = Live(channel, program, viewer, time.monotonic(), node.ways[way[1]])
            live.until(lambda: not program.running and viewer.ended, "push and viewer are ended")
    with push(FILM, channel.push) as refused:
        refused.process.wait(at_most(20))
    assert node.holder.api("GET", f"/videostream/{channel.id}").status == 404
    assert [event["by"] for event in live.events("channel.deleted")] == [live.way.by]
