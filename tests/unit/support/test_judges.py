"""The conformance judges: each accepts valid input and finds inserted faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.sync.server import serve as serve_websocket

from gateway.formats.flv import muxer
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.media.track import Tracks
from judges import flv_rules, http_rules, isobmff, media_checks, mpd, unusual, ws_rules
from judges.dash_rules import Presentation
from judges.findings import MAX_EXAMPLES, Findings
from judges.hls_playlist import parse_media, parse_multivariant
from judges.hls_snapshots import Follower
from judges.kinds import KINDS, spliced
from judges.table import JUDGES
from tests.support import builders
from tests.support.flv_reader import Tag
from tests.support.http import serving
from tests.support.time_outs import at_most

GOLDEN = Path(__file__).parents[2] / "golden" / "hls"
MEDIA = ("video.m3u8", "audio.m3u8", "video-discontinuity.m3u8", "video-ended.m3u8", "live.m3u8",
         "live-discontinuity.m3u8")  # fmt: skip


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


def followed(*texts: str) -> Findings:
    """The findings of a follower for successive snapshots of a playlist."""
    findings = Findings()
    follower = Follower("x", findings)
    for now, text in enumerate(texts):
        follower.see(parse_media(text, "http://host/x.m3u8", findings), float(now))
    return findings


def only(findings: Findings) -> str:
    """The only broken rule."""
    (rule,) = findings.broken
    return rule


# ---- kinds ----


def test_each_unusual_kind_changes_the_bodies_of_a_film() -> None:
    head = b"\x17\1\0\0\0"
    tags = [
        Tag(18, 0, b"metadata"),
        Tag(9, 0, b"\x17\0\0\0\0avcC"),
        Tag(9, 0, head + b"\0\0\0\3\x65\x88\x80"),
        Tag(8, 2_000, b"\xaf\1sound"),
    ]
    changed = {name: [tag.payload for tag in change(tags)] for name, change in unusual.CHANGES.items()}
    assert {kind.change for kind in KINDS} - {""} == set(changed)
    assert changed["start-codes"][2] == head + b"\0\0\0\1\x65\x88\x80"
    assert changed["empty-units"][2] == head + bytes(4) + b"\0\0\0\3\x65\x88\x80"
    assert len(changed["own-sei"]) == 5
    assert changed["unmarked-keys"][2][:1] == b"\x27"
    assert changed["adts"][3][2:] == bytes.fromhex("fff14c80019ffc") + b"sound"
    assert len(changed["sound-pauses"]) == 3
    assert [tag.timestamp for tag in unusual.CHANGES["sound-first"](tags)] == [0, 2_000]


# ---- findings ----


def test_findings_count_all_faults_but_keep_few_examples() -> None:
    findings = Findings()
    for at in range(10):
        findings.require(at > 8, "rule", at)
    assert findings.lines() == ["rule (9x): 0; 1; 2; 3"]
    assert len(findings.broken["rule"]) == MAX_EXAMPLES


# ---- HLS ----


@pytest.mark.parametrize("name", MEDIA)
def test_a_golden_playlist_has_no_findings(name: str) -> None:
    assert followed(golden(name), golden(name)).lines() == []


def test_a_golden_multivariant_playlist_has_no_findings() -> None:
    findings = Findings()
    found = parse_multivariant(golden("master.m3u8"), findings)
    assert findings.lines() == []
    assert [variant.uri for variant in found.variants] == ["video/index.m3u8"]
    assert found.groups == {"audio": ["audio/index.m3u8"]}


def test_a_multivariant_playlist_without_bandwidth_is_found() -> None:
    findings = Findings()
    parse_multivariant(golden("master.m3u8").replace(":BANDWIDTH=259702,", ":"), findings)
    assert only(findings) == "4.4.6.2 BANDWIDTH is required"


@pytest.mark.parametrize(
    ("name", "was", "becomes", "rule"),
    [
        ("video.m3u8", "#EXTM3U\n", "", "4.4.1.1"),
        ("video.m3u8", "PART-HOLD-BACK=1.53252", "PART-HOLD-BACK=1.20000", "4.4.3.8 PART-HOLD-BACK"),
        ("video.m3u8", "CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=11", "4.4.3.8 CAN-SKIP-UNTIL"),
        ("video.m3u8", "#EXTINF:2.00000,\n1700000000-5.", "#EXTINF:2.60000,\n1700000000-5.", "4.4.3.1 EXTINF rounded"),
        ("video.m3u8", "22:13:40.000Z", "22:13:40.067Z", "4.4.4.6 PROGRAM-DATE-TIME follows"),
        ("video.m3u8", "DURATION=0.50000,URI=\"1700000000-part-42", "DURATION=0.60000,URI=\"1700000000-part-42",
         "4.4.4.9 a part is PART-TARGET at most"),
        ("video.m3u8", "DURATION=0.50000,URI=\"1700000000-part-42", "DURATION=0.30000,URI=\"1700000000-part-42",
         "4.4.4.9 a part that is not the last"),
        ("video.m3u8", "VERSION:9", "VERSION:5", "7 EXT-X-MAP needs version 6"),
        ("video.m3u8", "#EXT-X-PART-INF", "#EXT-X-SOMETHING:1\n#EXT-X-PART-INF", "the tag is known"),
        ("video.m3u8", "LAST-MSN=13,LAST-PART", "LAST-MSN=13,,LAST-PART", "4.2 attribute list syntax"),
        ("video-ended.m3u8", "#EXT-X-ENDLIST", '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="x"\n#EXT-X-ENDLIST', "4.4.5.3 no"),
        ("video-discontinuity.m3u8", "#EXT-X-DISCONTINUITY\n#EXT-X-MAP", "#EXT-X-MAP", "a new MAP follows"),
    ],
)  # fmt: skip
def test_a_fault_in_a_playlist_is_found(name: str, was: str, becomes: str, rule: str) -> None:
    text = golden(name)
    assert was in text
    assert any(broken.startswith(rule) for broken in followed(text.replace(was, becomes)).broken)


@pytest.mark.parametrize(
    ("was", "becomes", "rule"),
    [
        ("SEQUENCE:3", "SEQUENCE:2", "6.2.2 MEDIA-SEQUENCE does not go back"),
        ("TARGETDURATION:2", "TARGETDURATION:3", "6.2.1 TARGETDURATION stays"),
        ("1700000000-5.m4s", "1700000000-55.m4s", "6.2.1 a listed segment does not change"),
        ("part-46.m4s", "part-99.m4s", "6.2.1 a listed part does not change"),
        ("PART-TARGET=0.50000", "PART-TARGET=0.51000", "4.4.3.7 PART-TARGET stays"),
    ],
)
def test_a_fault_between_two_snapshots_is_found(was: str, becomes: str, rule: str) -> None:
    text = golden("video.m3u8")
    assert was in text
    assert rule in followed(text, text.replace(was, becomes)).broken


def test_a_wrong_preload_hint_is_found() -> None:
    text = golden("video.m3u8")
    hint = '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="1700000000-part-50.m4s"\n'
    part = '#EXT-X-PART:DURATION=0.50000,URI="1700000000-part-{}.m4s"\n' + hint.replace("50", "51")
    assert followed(text, text.replace(hint, part.format(50))).lines() == []
    assert only(followed(text, text.replace(hint, part.format(77)))) == "4.4.5.3 PRELOAD-HINT comes true"
    assert followed(text, text.replace(hint, f"#EXT-X-DISCONTINUITY\n{part.format(77)}")).lines() == []


def test_a_playlist_with_removed_segments_needs_a_discontinuity_sequence() -> None:
    first = (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
        + "".join(f"#EXTINF:2.0,\n{n}.ts\n" for n in range(4))
        + "#EXT-X-DISCONTINUITY\n#EXTINF:2.0,\n4.ts\n"
    )
    second = first.replace("SEQUENCE:0", "SEQUENCE:1").replace("#EXTINF:2.0,\n0.ts\n", "")
    rule = "6.2.2 DISCONTINUITY-SEQUENCE is there once segments were removed"
    assert only(followed(first, second)) == rule
    told = second.replace("#EXT-X-MEDIA", "#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-MEDIA")
    assert followed(first, told).lines() == []


# ---- DASH ----


def manifest(text: str, findings: Findings) -> mpd.Manifest:
    found = mpd.parse(text.encode(), "http://host/c1/manifest.mpd", findings)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["manifest.mpd", "manifest-discontinuity.mpd"])
def test_a_golden_manifest_has_no_findings(name: str) -> None:
    findings = Findings()
    found = manifest(golden(name), findings)
    presentation = Presentation("http://host/c1/manifest.mpd", findings)
    now = max([mpd.date_time(value) for scheme, value in found.clocks if scheme.endswith("direct:2014")])
    presentation.header_fields(replace(found, published=now), now)
    for one in found.representations:
        if one.entries is not None:
            presentation.entries_stay(one, one.entries, found.max_segment)
    assert findings.lines() == []
    assert {one.id for one in found.representations} == {"video", "audio"}


def test_segment_urls_are_derived_from_the_template() -> None:
    one = manifest(golden("manifest.mpd"), Findings()).representations[0]
    assert one.segment_url(7) == "http://host/c1/video/1700000000-7.m4s"
    assert one.initialization == "http://host/c1/video/1700000000-init-1.mp4"


@pytest.mark.parametrize(
    ("was", "becomes", "rule"),
    [
        ('PresentationDelay="PT3.022S"', 'PresentationDelay="PT21.000S"', "MPD@suggestedPresentationDelay"),
        ('publishTime="2023-11-14T22:13:44.667Z"', 'publishTime="2033-11-14T22:13:44.667Z"', "publishTime is not"),
        ('<Period id="1"', "<Period", "Period@id"),
        (' bandwidth="245504"', "", "Representation@bandwidth"),
        ("2023-11-14T22:13:20.000Z\"/>\n</MPD>", "2023-11-14T22:13:28.000Z\"/>\n</MPD>", "UTCTiming is right"),
    ],
)  # fmt: skip
def test_a_fault_in_a_manifest_is_found(was: str, becomes: str, rule: str) -> None:
    text, findings = golden("manifest.mpd"), Findings()
    assert was in text
    found = manifest(text.replace(was, becomes), findings)
    Presentation("x", findings).header_fields(found, mpd.date_time("2023-11-14T22:13:20.000Z"))
    assert any(rule in broken for broken in findings.broken)


def test_a_changed_timeline_entry_is_found() -> None:
    findings = Findings()
    presentation = Presentation("x", findings)
    one = next(r for r in manifest(golden("manifest-ended.mpd"), findings).representations if r.entries)
    assert one.entries is not None
    presentation.entries_stay(one, one.entries, None)
    changed = [replace(one.entries[0], duration=one.entries[0].duration + 1), *one.entries[1:]]
    presentation.entries_stay(one, changed, None)
    assert only(findings) == "a listed S does not change"
    presentation.entries_stay(one, changed, 0.5)
    assert "MPD@maxSegmentDuration holds" in findings.broken


# ---- boxes ----


def box(name: str, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + name.encode() + body


def header(*entry: bytes) -> bytes:
    mdhd = box("mdhd", bytes(12), struct.pack(">I", 90000), bytes(8))
    hdlr = box("hdlr", bytes(8), b"vide", bytes(13))
    stsd = box("stsd", bytes(8), box("avc1", bytes(78), *entry))
    trak = box("trak", box("mdia", mdhd, hdlr, box("minf", box("stbl", stsd))))
    trex = box("trex", struct.pack(">6I", 0, 1, 1, 3000, 0, isobmff.SAMPLE_IS_NON_SYNC))
    return box("ftyp", b"cmf2") + box("moov", trak, box("mvex", trex))


def fragment(start: int, *durations: int) -> bytes:
    tfhd = box("tfhd", struct.pack(">II", isobmff.TFHD_DEFAULT_BASE_IS_MOOF, 1))
    tfdt = box("tfdt", struct.pack(">IQ", 1 << 24, start))
    bits = isobmff.TRUN_FIRST_FLAGS | isobmff.TRUN_DURATION | isobmff.TRUN_CTS
    runs = b"".join(struct.pack(">Ii", duration, 100) for duration in durations)
    trun = box("trun", struct.pack(">III", 1 << 24 | bits, len(durations), 0), runs)
    return box("moof", box("traf", tfhd, tfdt, trun)) + box("mdat", bytes(4))


def test_mp4_headers_and_fragments_are_read() -> None:
    read = isobmff.read_header(header())
    assert (read.timescale, read.handler, read.duration) == (90000, "vide", 3000)
    one, two = isobmff.read_fragments(fragment(500, 10, 20) + fragment(530, 40), read)
    assert (one.start, one.duration, one.earliest_presentation, one.first_is_sync) == (500, 30, 600, True)
    assert (two.start, two.durations, one.flags[1] != 0, one.base_is_moof) == (530, [40], True, True)


def test_truncated_mp4_boxes_are_found() -> None:
    data = fragment(0, 1)
    for cut in range(1, len(data)):
        if cut != data.index(b"mdat") - 4:
            with pytest.raises(isobmff.Malformed):
                list(isobmff.boxes(data[:cut]))
    with pytest.raises(isobmff.Malformed):
        list(isobmff.boxes(data + b"\0"))


def test_the_pixel_aspect_ratio_is_read() -> None:
    assert media_checks.pasp(header(box("pasp", struct.pack(">II", 16, 11)))) == (16, 11)
    assert media_checks.pasp(header(box("colr", bytes(4)))) is None


def test_frames_that_differ_from_the_source_are_found() -> None:
    source = list("abcabdefg")
    assert media_checks.excerpt_fault(list("abdef"), source) is None
    assert "frame 2 of 4" in str(media_checks.excerpt_fault(list("bdfg"), source))
    assert "none of the source's" in str(media_checks.excerpt_fault(list("xab"), source))


# ---- FLV ----


def flv(*tags: bytes, tracks: Tracks | None = None) -> bytes:
    both = tracks or Tracks(builders.VIDEO, builders.AUDIO)
    return (
        muxer.file_header(True, True) + muxer.metadata_tag(both, 0) + muxer.sequence_headers(both, 0) + b"".join(tags)
    )


def picture(time: int, *, key: bool = False, payload: bytes = b"\0\0\0\1\x65") -> bytes:
    return muxer.unit_tag(replace(builders.picture(time, key), payload=payload))


def judged(data: bytes) -> Findings:
    findings = Findings()
    flv_rules.judge_bytes(data, findings)
    return findings


def test_a_valid_flv_stream_has_no_findings() -> None:
    data = flv(picture(0, key=True), muxer.unit_tag(builders.sound(10)), picture(33))
    assert judged(data).lines() == []
    assert judged(data + picture(66)[:-3]).lines() == []
    assert flv_rules.avc_size(builders.AVCC) == (1280, 720)


@pytest.mark.parametrize(
    ("tags", "rule"),
    [
        ([picture(0)], "the first picture is a key frame"),
        ([picture(50, key=True), picture(20)], "timestamps of a kind do not go back"),
        ([picture(0, key=True, payload=b"\0\0\0\7\x65")], "lengths of NAL units fill the tag"),
        ([picture(0, key=True)], "E.2 the header announces what comes"),
        ([muxer.tag(30, 0, b"x"), picture(0, key=True)], "E.4.1 the tag type is known"),
        ([picture(0, key=True)[:-1] + b"\x99", picture(33)], "E.3 PreviousTagSize"),
        ([muxer.tag(18, 0, b"\x0d")], "the body of a tag is well-formed"),
    ],
)
def test_a_fault_in_an_flv_stream_is_found(tags: list[bytes], rule: str) -> None:
    assert rule in judged(flv(*tags, tracks=Tracks(builders.VIDEO, None))).broken


def test_metadata_with_a_wrong_picture_size_is_found() -> None:
    sequence = muxer.sequence_headers(Tracks(builders.VIDEO, None), 0) + picture(0, key=True)

    def told(width: int, height: int) -> bytes:
        numbers = (b"\0\5width\0", struct.pack(">d", width), b"\0\6height\0", struct.pack(">d", height))
        script = muxer.tag(18, 0, b"\2\0\x0aonMetaData\3" + b"".join(numbers) + b"\0\0\x09")
        return muxer.file_header(True, False) + script + sequence

    assert judged(told(1280, 720)).lines() == []
    assert only(judged(told(320, 180))) == "onMetaData has the picture's size"


def test_spliced_flv_files_have_continuous_timestamps() -> None:
    one = flv(picture(0, key=True), muxer.unit_tag(builders.sound(10)), picture(40))
    assert judged(spliced([one, one])).lines() == []


# ---- HTTP and WebSocket ----


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that sends the same answer to every client and closes. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(at_most(10))


async def _hello(request: Request) -> Response:
    return Response(200, b"hello", {"Content-Type": "text/plain"})


def http_judge(port: int) -> http_rules.HttpJudge:
    return http_rules.HttpJudge("127.0.0.1", port, "/", Findings())


QUICK_RULES: list[Callable[[http_rules.HttpJudge], None]] = [
    http_rules.HttpJudge.responses, http_rules.HttpJudge.heads, http_rules.HttpJudge.hosts,
    http_rules.HttpJudge.pipelining,
]  # fmt: skip


async def test_a_valid_http_listener_has_no_findings() -> None:
    async with serving(_hello) as listener:
        judge = http_judge(listener.port)
        for rules in QUICK_RULES:
            await asyncio.to_thread(rules, judge)
        assert judge.findings.lines() == []


def test_a_listener_that_accepts_invalid_requests_is_found() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as port:
        judge = http_judge(port)
        for rules in QUICK_RULES:
            rules(judge)
    assert {"9112 3.2 without Host: 400", "9110 6.6.1 Date is there", "9110 9.3.2 HEAD has no body",
            "9112 9.3.2 pipelined requests are answered"} <= judge.findings.broken.keys()  # fmt: skip


def test_pipelined_answers_are_parsed_separately() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 1\r\n\r\n!"
    )
    found = http_rules.parse_responses(data)
    assert [(one.status, one.body) for one in found] == [(100, b""), (200, b"abc"), (304, b""), (400, b"!")]


def test_a_connection_that_stays_open_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_rules, "HEAD_GRACE", 0.05)
    findings = Findings()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        http_rules.slow_heads([listener.getsockname()], 0.05, findings)
    assert len(findings.broken) == 2


def test_a_valid_websocket_server_has_no_findings() -> None:
    findings = Findings()
    with serve_websocket(lambda ws: list(ws), "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        judge = ws_rules.WsJudge("127.0.0.1", server.socket.getsockname()[1], "/", findings)
        judge.handshake()
        judge.pings()
        judge.closes_with("1002", ws_rules.frame(3, b"a"), 1002)
        judge.closes_with("1000", ws_rules.frame(ws_rules.CLOSE, struct.pack(">H", 1000)), 1000)
        assert findings.lines() == []
        judge.closes_with("another code", ws_rules.frame(3, b"a"), 1001)
        assert only(findings) == "another code"
        server.shutdown()
        thread.join(at_most(10))


def test_a_server_that_does_not_upgrade_is_found() -> None:
    findings = Findings()
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        ws_rules.WsJudge("127.0.0.1", port, "/", findings).handshake()
    assert "4.2.2 an upgrade is 101" in findings.broken


def test_websocket_frames_of_any_length_are_read() -> None:
    for size in (0, 125, 126, 65535, 65536):
        data = ws_rules.frame(ws_rules.BINARY, bytes(size), mask=False)
        findings = Findings()
        assert ws_rules.read_frame(data[:-1], findings) is None or size == 0
        found = ws_rules.read_frame(data + b"rest", findings)
        assert found is not None
        assert (len(found[0].payload), found[1], findings.lines()) == (size, b"rest", [])


def test_invalid_websocket_frames_are_found() -> None:
    for data, rule in (
        (b"\x82\x81aaaab", "5.1 frames of the server are not masked"),
        (b"\x82\x7e\0\1a", "5.2 lengths have the shortest form"),
        (b"\xc2\1a", "5.2 reserved bits are 0"),
    ):
        findings = Findings()
        ws_rules.read_frame(data, findings)
        assert only(findings) == rule


# ---- the suite ----


def test_every_judge_has_streams_and_every_stream_has_judges() -> None:
    assert len({judge.name for judge in JUDGES}) == len(JUDGES)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert [judge.name for judge in JUDGES if not any(judge.applies(kind) for kind in KINDS)] == []
    assert [kind.name for kind in KINDS if not any(judge.applies(kind) for judge in JUDGES)] == []
