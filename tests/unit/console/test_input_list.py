"""The console's list of inputs, executed with node: requests to the API and the place of error messages."""

from typing import Any

import pytest

from gateway.channels.inputs import COMPUTED, MAX_INPUTS, Below, InputKind, InputSpec, parse_inputs, restore_addresses
from gateway.channels.playlist_items import PlaylistItem
from gateway.inputs.channel_input import InputState
from gateway.ports.errors import InvalidField
from tests.support.node import CONSOLE
from tests.support.node import run as execute
from tests.unit.console.test_words import table

VIEWS = CONSOLE / "app" / "views" / "channel"
STATE = {"state": "off", "error": None, "taken": False, "key": "1-a", "pushUrl": "rtmp://h/stream/c1?sign=1-a"}
SPECS = [
    InputSpec("main", InputKind.PUSH),
    InputSpec("van", InputKind.BACKUP, below=Below(800, 5)),
    InputSpec("camera", InputKind.PULL, url="rtsp://192.0.2.1/1", always=True),
    InputSpec("night", InputKind.PLAYLIST, items=("a.mp4@20:00", "b/"), loop=False, zone="Europe/Berlin"),
    InputSpec("slate", InputKind.SLATE, picture="x.png", text="Back soon", always=True),
]
INPUTS = [{**spec.stored(), **STATE} for spec in SPECS]


def run(names: str, script: str, given: Any = None) -> Any:
    return execute("app/views/channel/input_list.js", names, f"out({script});", given, before="const given = input;")


def test_only_stored_members_of_inputs_are_sent_to_the_api() -> None:
    sent = run("stored", "given.map(stored)", INPUTS)
    assert sent == [spec.stored() for spec in SPECS]
    assert parse_inputs(sent) == tuple(SPECS)
    assert not set().union(*sent) & COMPUTED


def test_a_new_input_has_all_members_of_its_kind() -> None:
    members, most = run("MEMBERS, MOST", "[MEMBERS, MOST]")
    assert most == MAX_INPUTS
    assert set(members) == set(InputKind)
    for kind in InputKind:
        new = {"name": "x", "kind": kind, **members[kind]}
        assert parse_inputs([{**new, "url": "rtmp://a/b", "items": ["a.mp4"]}])[-1].name == "x", kind
        given = {name: value for name, value in new.items() if name != "below"}
        assert given == InputSpec("x", kind).stored(), kind
        assert ("below" in new) == (kind in (InputKind.PUSH, InputKind.BACKUP, InputKind.PULL)), kind


def test_an_input_moves_one_place_and_stays_inside_the_list() -> None:
    steps = [[1, -1], [0, 1], [0, -1], [4, 1], [2, 1]]
    moved = run("moved", "given.steps.map(([i, step]) => moved(given.list, i, step).map((one) => one.name))",
                {"list": INPUTS, "steps": steps})  # fmt: skip
    names = [spec.name for spec in SPECS]
    swapped = ["van", "main", *names[2:]]
    assert moved == [swapped, swapped, names, names, ["main", "van", "night", "camera", "slate"]]


def test_a_new_input_gets_an_unused_name() -> None:
    used = [{"name": name} for name in ("slate", "slate2", "pull2")]
    assert run("freeName", "['slate', 'pull', 'backup'].map((kind) => freeName(given, kind))", used) == [
        "slate3", "pull", "backup",
    ]  # fmt: skip


def test_console_and_gateway_detect_the_same_start_times() -> None:
    texts = ["a.mp4", "a.mp4@20:00", "a/@8:05:30", "me@home.mp4", "a.mp4@noon", "a.mp4@20:00 "]
    assert run("hasTime", "given.map(hasTime)", texts) == [PlaylistItem.parse(t).begins is not None for t in texts]


def test_a_push_url_is_split_into_server_and_key() -> None:
    url = "rtmp://push.example.com:1935/stream/c1?sign=1-a/b&input=van"
    assert run("partsOf", "partsOf(given)", url) == {
        "server": "rtmp://push.example.com:1935/stream",
        "key": "c1?sign=1-a/b&input=van",
    }


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": "a b", "kind": "backup"}),
    ("name", {"name": "van", "kind": "slate"}),
    ("name", {"name": "main", "kind": "backup"}),
    ("url", {"name": "x", "kind": "pull", "url": "ftp://example.com"}),
    ("url", {"name": "x", "kind": "pull", "url": "x" * 3_000}),
    ("url", {"name": "x", "kind": "pull", "url": "rtsp://********@192.0.2.9/1"}),
    ("items", {"name": "x", "kind": "playlist", "items": []}),
    ("items", {"name": "x", "kind": "playlist", "items": ["../x"]}),
    ("items", {"name": "x", "kind": "playlist", "items": ["a.mp4@25:00"]}),
    ("zone", {"name": "x", "kind": "playlist", "items": ["a.mp4@20:00"], "zone": "Mars/Olympus"}),
    ("picture", {"name": "x", "kind": "slate", "picture": "../x"}),
    ("picture", {"name": "x", "kind": "slate", "picture": "x" * 3_000}),
    ("text", {"name": "x", "kind": "slate", "text": "x" * 501}),
    ("text", {"name": "x", "kind": "slate", "text": "\x07"}),
]


def test_a_gateway_error_is_shown_at_its_field() -> None:
    refused = []
    for _, item in WRONG:
        others = [] if item["name"] == "main" else [SPECS[1].stored()]
        with pytest.raises(InvalidField) as error:
            parse_inputs(restore_addresses([*others, item], SPECS))
        refused.append([error.value.message, item["kind"]])
    shown = run("wrongField", "given.map(([message, kind]) => wrongField(message, kind))", refused)
    assert shown == [field for field, _ in WRONG], refused


def test_other_errors_are_shown_below_the_form() -> None:
    messages = ["the store does not answer now", "a channel has at most 8 inputs"]
    assert run("wrongField", "given.map((message) => wrongField(message, 'pull'))", messages) == ["", ""]
    assert run("wrongField", "wrongField('items is a list', 'slate')") == ""


def test_a_picture_is_requested_only_if_there_is_one() -> None:
    inputs = [{"kind": kind, "state": state} for kind in InputKind for state in InputState]
    wanted = [i["state"] in ("on air", "ready") for i in inputs]
    assert run("hasPicture", "given.map(hasPicture)", inputs) == wanted


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_input_kind_and_state_has_a_text(language: str) -> None:
    words = table(language, "channel")
    assert {f"inputs.kind.{kind}" for kind in InputKind} <= words.keys()
    assert {f"inputs.{part}.{kind}" for kind in run("ADDED", "ADDED") for part in ("add", "about")} <= words.keys()
    states = (VIEWS / "inputs.js").read_text().split("const STATES = {")[1].split("};")[0]
    assert all(f'"{state}":' in states or f" {state}:" in states for state in InputState), states
