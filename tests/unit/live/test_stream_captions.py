"""The captions of a stream: from pictures in decode order, from script data, and by the channel's tracks."""

import base64

import pytest

from gateway.formats import amf0
from gateway.live.posted_captions import PostedCaption, post_caption
from gateway.live.stream import Stream
from gateway.live.stream_captions import StreamCaptions
from gateway.media.caption_track import CaptionTrack
from gateway.media.timed_data import CaptionText, Script
from gateway.media.track import AccessUnit, TimedData
from gateway.ports.errors import InvalidField, TooManyRequests
from tests.support import builders
from tests.support.builders import VIDEO, picture
from tests.support.caption_writer import code, popped_on, sei, user_data

ENGLISH, GERMAN = CaptionTrack("TEXT", "English", "en"), CaptionTrack("TEXT", "Deutsch", "de")


def shown(captions: StreamCaptions, track: str) -> list[tuple[str, int, int | None]]:
    """The captions of a track, with their times in milliseconds."""
    log = captions.logs.get(track)
    entries = log.since(0) if log is not None else ()
    return [(entry.text, entry.start // 90, entry.end and entry.end // 90) for entry in entries]


def say(captions: StreamCaptions, text: str, at: int, language: str = "", end: int | None = None) -> None:
    captions.take(TimedData(at, CaptionText(text, at, end, language)))


def with_pair(pair: bytes, dts: int, cts: int = 0) -> AccessUnit:
    """A picture that carries a pair of field 1."""
    return with_pairs([(0, pair)], dts, cts)


def with_pairs(pairs: list[tuple[int, bytes]], dts: int, cts: int = 0) -> AccessUnit:
    unit = sei(user_data(pairs))
    return AccessUnit(VIDEO, dts, cts, False, 0.0, len(unit).to_bytes(4, "big") + unit)


def test_captions_of_a_time_range_are_those_that_are_shown_in_it():
    captions = StreamCaptions(tuple)
    say(captions, "past", 0, end=1_000)
    say(captions, "ends", 500, end=1_500)
    say(captions, "shown", 1_800)
    found = captions.logs["text"].between(90_000, 2 * 90_000)
    assert [(cue.text, cue.start, cue.end) for cue in found] == [("ends", 45_000, 135_000), ("shown", 162_000, 180_000)]


def test_captions_of_pictures_have_the_times_at_which_these_are_shown():
    captions = StreamCaptions(tuple)
    pairs = [*popped_on(1, "HELLO"), b"\x80\x80", *code(1, 0x2C), b"\x80\x80"]
    # Groups of three pictures in decode order: the first is shown after the two others.
    for first in range(0, len(pairs), 3):
        group = pairs[first : first + 3]
        if len(group) == 3:
            at = first * 40
            for number, (place, pair) in enumerate(((2, group[2]), (0, group[0]), (1, group[1]))):
                captions.look(with_pair(pair, at + 40 * number, 80 + 40 * place - 40 * number))
    for n in range(10):
        captions.look(with_pair(b"\x80\x80", 4_000 + 40 * n))
    [(text, start, end)] = shown(captions, "cc1")
    assert text == "HELLO"
    begin = len(popped_on(1, "HELLO")) - 1
    assert start in (begin * 40 + 80, begin * 40 + 40)  # codes are sent twice
    assert end is not None and start < end <= start + 160


def test_services_are_found_in_packets_that_pictures_in_decode_order_continue():
    captions = StreamCaptions(tuple)
    block = b"abcdefghijklmnopqrst"
    packet = b"\x16" + b"\x34" + block + b"\x54" + block + b"\x00"  # 22 pairs: services 1 and 2
    pairs = [(3 if at == 0 else 2, packet[at : at + 2]) for _ in range(9) for at in range(0, len(packet), 2)]
    pictures = [pairs[at : at + 9] for at in range(0, len(pairs), 9)]  # as they are shown
    for number in range(len(pictures) // 3):
        for place, shown in enumerate((3 * number + 2, 3 * number, 3 * number + 1)):  # P B B
            dts = 120 * number + 40 * place
            captions.look(with_pairs(pictures[shown], dts, 40 * shown + 40 - dts))
    captions.look(with_pairs([], 10_000))
    assert captions.found.names == ("SERVICE1", "SERVICE2")


def test_a_text_without_an_end_lasts_until_the_next_one_or_as_long_as_reading_takes():
    captions = StreamCaptions(tuple)
    say(captions, "first", 1_000)
    say(captions, "second", 1_500)
    captions.logs["text"].expire(100 * 90_000)
    assert shown(captions, "text") == [("first", 1_000, 1_500), ("second", 1_500, 3_500)]


def test_a_text_goes_to_the_track_of_its_language():
    captions = StreamCaptions(lambda: (ENGLISH, GERMAN))
    say(captions, "no language", 0)
    say(captions, "deutsch", 0, "de")
    say(captions, "français", 0, "fr")
    assert [shown(captions, track)[0][0] for track in ("text-en", "text-de", "text-fr")] == [
        "no language", "deutsch", "français",
    ]  # fmt: skip
    assert captions.texts == (ENGLISH, GERMAN)  # a channel that names its tracks offers no others


def test_unnamed_captions_are_offered_under_their_own_name():
    captions = StreamCaptions(tuple)
    assert captions.texts == () and captions.closed == ()
    say(captions, "hi", 0, "fr")
    captions.take(TimedData(0, CaptionText("spoken", 0, is_speech=True)))
    assert [track.id for track in captions.texts] == ["text-fr", "speech"]
    captions.look(with_pair(code(1, 0x20)[0], 0))
    assert [track.id for track in captions.texts] == ["cc1", "text-fr", "speech"]


@pytest.mark.parametrize("name", ["onTextData", "onCaption"])
@pytest.mark.parametrize(
    "language", ['en",URI="http://a/b.m3u8', "en\n#EXT-X-ENDLIST", "\0x", "../../x", "l" * 300, 5.0]
)
def test_a_language_that_is_none_is_unknown(name: str, language: object):
    captions = StreamCaptions(tuple)
    captions.take(TimedData(0, Script(name, amf0.encode({"text": "hi", "language": language}))))
    assert [(track.id, track.label, track.language) for track in captions.texts] == [("text", "Text", "")]
    assert shown(captions, "text")[0][0] == "hi"


def test_the_number_of_texts_is_bounded():
    captions = StreamCaptions(tuple)
    for n in range(100):
        say(captions, "x", n, f"aa-{n}")
    assert len(captions.texts) == len(captions.logs) == 8
    for n in range(1_000):
        say(captions, f"n{n}", n, "aa-0")
    assert len(shown(captions, "text-aa-0")) == 128


def test_closed_captions_beside_the_pictures_are_read():
    captions = StreamCaptions(tuple)
    for n, pair in enumerate([*popped_on(1, "BESIDE"), b"\x80\x80"]):
        data = base64.b64encode(user_data([(0, pair)])).decode()
        captions.take(TimedData(n * 33, Script("onCaptionInfo", amf0.encode({"type": "708", "data": data}))))
    assert [text for text, *_ in shown(captions, "cc1")] == ["BESIDE"]
    assert [track.id for track in captions.texts] == ["cc1"] and captions.closed == ()
    for values in ({}, {"type": "708", "data": "%"}, {"type": "708", "data": 1.0}, {"type": "WebVTT", "data": ""}):
        captions.take(TimedData(0, Script("onCaptionInfo", amf0.encode(values))))


def test_other_media_end_what_is_shown():
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    stream.push(picture(0, True))
    stream.push_timed(TimedData(0, CaptionText("x", 0)))
    stream.set_tracks(VIDEO, None, {}, False)
    assert [end for _, _, end in shown(stream.captions, "text")] == [0]


def live() -> Stream:
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    stream.received.last_dts_ms = 60_000
    return stream


def test_a_posted_caption_begins_at_the_newest_picture():
    stream = live()
    post_caption(stream, PostedCaption("now", "en"))
    assert [start for _, start, _ in shown(stream.captions, "text-en")] == [60_000]


def test_posted_captions_are_limited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.live.posted_captions.time.time", lambda: 1_000.0)
    stream = live()
    post_caption(stream, PostedCaption("then", start=998.0, end=1_001.5))
    assert shown(stream.captions, "text") == [("then", 58_000, 61_500)]
    for start, end, field in (
        (0.0, None, "from"),
        (5_000.0, None, "from"),
        (1_000.0, 999.0, "to"),
        (None, 5_000.0, "to"),
    ):
        with pytest.raises(InvalidField) as refused:
            post_caption(stream, PostedCaption("x", start=start, end=end))
        assert refused.value.field == field
    with pytest.raises(TooManyRequests):
        for _ in range(11):
            post_caption(stream, PostedCaption("x"))
