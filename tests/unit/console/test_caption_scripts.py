"""Modules for captions and metadata of the player pages, executed with node: AMF0, ID3, cues and their times."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.formats import amf0
from gateway.media.track import AmfValue
from tests.support.node import CONSOLE, run

_READ = "out(input.map((hex) => read(Uint8Array.from(Buffer.from(hex, 'hex')))));"


def script_data(*bodies: bytes) -> list[Any]:
    return list(run("players/amf0.js", "scriptData as read", _READ, [body.hex() for body in bodies]))


def id3(*tags: bytes) -> list[Any]:
    return list(run("players/id3.js", "id3Texts as read", _READ, [tag.hex() for tag in tags]))


def named(name: str, values: AmfValue) -> bytes:
    return bytes(amf0.encode(name, values))


def test_script_data_of_the_gateway_is_read() -> None:
    values: dict[str, AmfValue] = {"track": "text-en", "text": "Grüße 😀", "start": 1234.5, "line": 10.0, "ok": True}
    assert script_data(named("onMillraceCaption", values)) == [{"name": "onMillraceCaption", "values": values}]
    long = {"text": "x" * 70_000}
    assert script_data(named("onTimedMetadata", long))[0]["values"] == long


def test_other_and_damaged_script_data_is_nothing() -> None:
    whole = named("onMillraceCaption", {"track": "text-en", "text": "x", "start": 1.0})
    cut = [whole[:size] for size in range(len(whole))]
    nested = named("a", {"b": {"c": 1.0}})
    many = named("a", {f"k{n}": 1.0 for n in range(65)})
    assert script_data(*cut, nested, many, named("a", 1.0), bytes(amf0.encode("a"))) == [None] * (len(cut) + 4)


def test_any_bytes_are_read_without_an_exception() -> None:
    dice = random.Random(7)
    bodies = [dice.randbytes(dice.randrange(60)) for _ in range(400)]
    bodies += [b"\x02\0\1a\x03" + dice.randbytes(40) for _ in range(400)]
    assert len(script_data(*bodies)) == len(bodies)
    tags = [b"ID3\x04\0" + dice.randbytes(60) for _ in range(800)]
    assert all(isinstance(texts, list) for texts in id3(*tags))


def frame(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "big") + b"\0\0" + body


def tag(frames: bytes, version: int = 4) -> bytes:
    size = len(frames)
    return b"ID3" + bytes([version, 0, 0, *(size >> shift & 127 for shift in (21, 14, 7, 0))]) + frames


@pytest.mark.parametrize("version", [3, 4])
def test_the_text_of_an_id3_tag_is_that_of_its_text_frames(version: int) -> None:
    texts = [
        frame(b"TXXX", b"\3about\0Gr\xc3\xbc\xc3\x9fe\0"),
        frame(b"PRIV", b"owner\0data"),
        frame(b"TIT2", b"\0caf\xe9"),
        frame(b"TXXX", b"\1\xff\xfea\0\0\0\xff\xfeb\0c\0"),
    ]
    assert id3(tag(b"".join(texts), version)) == [["Grüße", "café", "bc"]]


def test_a_damaged_id3_tag_has_no_texts_after_the_damage() -> None:
    good = frame(b"TXXX", b"\3\0one")
    whole = tag(good + good)
    assert id3(whole[:-1], whole[:15], b"", b"ID3\x02\0\0\0\0\0\0", tag(good + bytes(40))) == [
        ["one"],
        [],
        [],
        [],
        ["one"],
    ]


_CUES = """
const list = new CueList();
for (const cue of input.cues) list.add(cue);
out(input.times.map((time) => list.at(time).map(({ text }) => text)));
"""


def at(cues: list[tuple[float, float, str]], *times: float) -> list[list[str]]:
    given = [{"start": start, "end": end, "text": text, "line": None} for start, end, text in cues]
    return list(run("players/cues.js", "CueList", _CUES, {"cues": given, "times": times}))


def test_a_caption_belongs_to_the_times_from_its_begin_to_its_end() -> None:
    assert at([(1, 3, "a"), (2, 4, "b")], 0.9, 1, 2, 3, 4) == [[], ["a"], ["a", "b"], ["b"], []]


def test_a_later_message_changes_the_end_of_a_caption() -> None:
    assert at([(1, 9, "a"), (1, 3, "a")], 2, 4) == [["a"], []]


def test_a_caption_that_goes_on_in_the_next_segment_is_shown_once() -> None:
    assert at([(1, 2.001, "a"), (2, 3, "a")], 2) == [["a"]]


def test_the_next_caption_ends_one_whose_end_is_unknown() -> None:
    given = [{"start": n, "end": n + 9, "open": n < 2, "text": str(n), "line": None} for n in (1, 2, 3)]
    found = run("players/cues.js", "CueList", _CUES, {"cues": given, "times": [1, 2, 3]})
    assert found == [["1"], ["2"], ["2", "3"]]


def test_only_the_latest_captions_are_kept() -> None:
    assert at([(n, n + 1, str(n)) for n in range(70)], 5, 6, 69) == [[], ["6"], ["69"]]


_MOMENTS = """
const moments = new Moments(input.late);
const told = [];
for (const [now, ...added] of input.course) {
  for (const [time, text] of added) moments.add(time, text);
  told.push(moments.due(now ?? NaN).map(({ text }) => text));
}
out(told);
"""


def moments(*course: list[Any]) -> list[list[str]]:
    return list(run("players/cues.js", "Moments", _MOMENTS, {"late": 1, "course": course}))


def test_metadata_are_told_once_at_their_time() -> None:
    assert moments([0, [2, "b"], [1, "a"]], [1.5], [None], [2], [3, [2, "b"]]) == [[], ["a"], [], ["b"], []]


def test_metadata_from_before_the_beginning_are_not_told() -> None:
    assert moments([10, [2, "old"], [9.5, "new"]]) == [["new"]]


_HLS = """
const { hlsRenditions } = await import(input.module);
const format = { media: "live.m3u8", others: hlsRenditions };
out(input.statuses.map((status) => addresses(format, status).map(({ id, file }) => `${id} ${file}`)));
"""


def test_a_playlist_with_captions_takes_the_place_of_the_one_without() -> None:
    ladder = {"ladder": "hls", "renditions": [{"name": "720p", "bitrate": 5}]}
    statuses: list[dict[str, Any]] = [{}, {"captions": [{}]}, ladder, {**ladder, "captions": [{}]}]
    module = (CONSOLE / "players/renditions.js").as_uri()
    found = run("players/quality.js", "addresses", _HLS, {"module": module, "statuses": statuses})
    rungs = ["auto index.m3u8", "720p index.m3u8"]
    assert found == [
        ["source live.m3u8"],
        ["source index.m3u8"],
        ["source live.m3u8", *rungs],
        ["source index.m3u8", *rungs],
    ]
