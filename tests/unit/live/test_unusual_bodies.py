"""Bodies that encoders send against the specifications become the units that players read."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from gateway.formats.flv.muxer import track_body, unit_body
from gateway.live.flv_intake import FlvIntake
from gateway.live.sink import EndReason
from gateway.live.track_changes import MAX_CHANGES
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media import aac, av1, nal
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from tests.support import builders
from tests.support.builders import Recorder, publish
from tests.support.sources import AAC, X264, Source, h264, pictures, source, tone

Bodies = list[tuple[int, int, bytes]]  # index, time, body


def film() -> Source:
    """H.264 with B-frames and AAC."""
    return h264(seconds=2, gop=15)


def hevc() -> Source:
    x265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=15:bframes=0")
    return source(*pictures("160x90"), *tone(), "-t", "1", *x265, *AAC)


def bodies(film: Source, change: Callable[[AccessUnit], Iterable[bytes]] | None = None, headers: bool = True) -> Bodies:
    """The bodies of a push. change: makes the payloads of the bodies of a picture."""
    found: Bodies = []
    if headers:
        found = [(VIDEO_INDEX if t.kind is Kind.VIDEO else AUDIO_INDEX, 0, track_body(t)) for t in film.tracks]
    for unit in film.units:
        index = VIDEO_INDEX if unit.track.kind is Kind.VIDEO else AUDIO_INDEX
        payloads = [unit.payload] if change is None or index == AUDIO_INDEX else change(unit)
        found += [(index, unit.dts, unit_body(replace(unit, payload=payload))) for payload in payloads]
    return found


async def pushed(sent: Bodies, malformed: int = 0) -> Recorder:
    """Pushes bodies, of which some are malformed, and returns what a viewer got."""
    hub = builders.hub()
    publisher = publish(hub)
    sink = Recorder()
    publisher.stream.attach(sink)
    intake = FlvIntake(publisher)
    for index, at, body in sent:
        intake.take_media(index, at, body, 1.7e9, time.monotonic())
    intake.finish(time.monotonic())
    assert intake.unusable.broken == malformed
    hub.drain()
    await hub.drained()
    return sink


def of(sink: Recorder, kind: Kind) -> list[AccessUnit]:
    return [unit for unit in sink.units if unit.track.kind is kind]


def same_pictures(sink: Recorder, film: Source) -> None:
    """Asserts that a viewer got the pictures of a film: the same slices at the same times, with the same marks."""

    def shown(units: list[AccessUnit], codec: Codec) -> list[tuple[int, int, bool, list[bytes]]]:
        sets = NAL_CODECS[codec]
        kept = (
            (u, [n for n in nal.split(u.payload) if sets.type_of(n) not in (*sets.sets, sets.delimiter)]) for u in units
        )
        return [(u.dts, u.cts, u.key, units) for u, units in kept]

    sent = film.of(Kind.VIDEO)
    assert shown(of(sink, Kind.VIDEO), sent[0].track.codec) == shown(sent, sent[0].track.codec)


def start_codes(unit: AccessUnit) -> list[bytes]:
    return [nal.join_annexb(nal.split(unit.payload))]


def empty_units(unit: AccessUnit) -> list[bytes]:
    return [bytes(4) + b"".join(nal.join([n]) + bytes(4) for n in nal.split(unit.payload))]


def additions_apart(unit: AccessUnit) -> list[bytes]:
    """SEI in a body of its own before the picture, as drones send it."""
    return [nal.join([n]) for n in nal.split(unit.payload)]


def start_codes_inside(unit: AccessUnit) -> list[bytes]:
    """One length before a delimiter and the units of the picture: apps of phones take all of it for one unit."""
    delimiter = b"\x09\xf0" if unit.track.codec is Codec.H264 else b"\x46\x01\x50"
    return [nal.join([nal.START_CODE.join([delimiter, *nal.split(unit.payload)])])]


def slices_behind_one_length(unit: AccessUnit) -> list[bytes]:
    """A start code between the slices of a picture, whose length is that of all: phones of 2016 (Kirin)."""
    codec = NAL_CODECS[unit.track.codec]
    units = nal.split(unit.payload)
    first = next(n for n, one in enumerate(units) if codec.type_of(one) in codec.slices)
    return [nal.join([*units[:first], nal.START_CODE.join(units[first:])])]


def as_it_is(unit: AccessUnit) -> list[bytes]:
    return [unit.payload]


CHANGES = [as_it_is, start_codes, start_codes_inside, empty_units, additions_apart]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [film, hevc])
async def test_pictures_arrive_whole(make: Callable[[], Source], change: Callable[[AccessUnit], list[bytes]]) -> None:
    sent = make()
    sink = await pushed(bodies(sent, change))
    same_pictures(sink, sent)
    assert len(sink.tracks) == 1


@pytest.mark.parametrize("make", [film, hevc])
async def test_a_correct_push_is_not_changed_by_a_bit(make: Callable[[], Source]) -> None:
    sent = make()
    sink = await pushed(bodies(sent))
    for kind in Kind:
        assert [(u.dts, u.cts, u.key, u.payload) for u in of(sink, kind)] == [
            (u.dts, u.cts, u.key, u.payload) for u in sent.of(kind)
        ]


@pytest.mark.parametrize("change", [as_it_is, additions_apart])
async def test_pictures_that_are_stamped_with_presentation_times_keep_their_order(
    change: Callable[[AccessUnit], list[bytes]],
) -> None:
    """Some encoders send B-frames with the time at which they are shown, and without an offset."""
    options = "b-adapt=0:keyint=15:slices=3"
    film = source(*pictures("160x90"), *tone(), "-t", "4", *X264, "-bf", "3", "-x264opts", options, *AAC)
    stamped = replace(film, units=tuple(replace(unit, dts=unit.dts + unit.cts, cts=0) for unit in film.units))
    sink = await pushed(bodies(stamped, change))

    units = of(sink, Kind.VIDEO)
    assert [u.dts for u in units] == sorted({u.dts for u in units}), "the decode times grow"
    shown = [u.dts + u.cts for u in units]
    wanted = [u.dts + u.cts for u in film.units if u.track.kind is Kind.VIDEO]
    assert [at - shown[0] for at in shown] == [at - wanted[0] for at in wanted]
    assert all(u.cts >= 0 for u in units[12:])


async def test_pictures_without_b_frames_whose_times_go_back_are_not_reordered() -> None:
    film = source(*pictures("160x90"), *tone(), "-t", "2", *X264, "-bf", "0", *AAC)
    times = iter(range(1, 10_000))
    sent = [(i, at - 50 * (i == VIDEO_INDEX and next(times) % 5 == 0), body) for i, at, body in bodies(film)]
    sink = await pushed([(i, max(0, at), body) for i, at, body in sent])

    assert {u.cts for u in of(sink, Kind.VIDEO)} == {0}


async def test_slices_in_several_bodies_are_one_picture() -> None:
    sent = source(*pictures(), "-t", "2", *X264, "-g", "15", "-bf", "0", "-pix_fmt", "yuv420p", "-slices", "3")
    sink = await pushed(bodies(sent, additions_apart))
    # The first picture is published before it is known that slices follow in other bodies.
    got, whole = of(sink, Kind.VIDEO)[1:], sent.of(Kind.VIDEO)[1:]
    assert [(u.dts, u.key, nal.split(u.payload)) for u in got] == [(u.dts, u.key, nal.split(u.payload)) for u in whole]


@pytest.mark.parametrize(
    "codec", [X264, ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:slices=3")]
)
async def test_slices_behind_one_length_get_their_own(codec: tuple[str, ...]) -> None:
    """Apple's decoders show only the first slice otherwise."""
    sent = source(*pictures(), "-t", "2", *codec, "-g", "15", "-bf", "0", "-pix_fmt", "yuv420p", "-slices", "3")
    assert all(len(nal.split(unit.payload)) >= 3 for unit in sent.of(Kind.VIDEO))
    same_pictures(await pushed(bodies(sent, slices_behind_one_length)), sent)


async def test_the_slices_of_a_picture_are_limited() -> None:
    sent = film().only(Kind.VIDEO)
    header, key, one, two, *rest = bodies(sent)
    more = b"\x27\x01\0\0\0" + nal.join([b"\x41\x01"])
    # A slice behind the second picture tells that pictures come in several bodies. The third one has too many.
    too_many = [(VIDEO_INDEX, two[1], more)] * (nal.MAX_UNITS + 1)
    sink = await pushed([header, key, one, (VIDEO_INDEX, one[1], more), two, *too_many, *rest], malformed=1)
    assert [u.dts for u in of(sink, Kind.VIDEO)] == [u.dts for u in (*sent.units[:2], *sent.units[3:])]


async def test_key_frames_without_their_mark_are_found() -> None:
    sent = film()
    unmarked = replace(sent, units=tuple(replace(u, key=u.track.kind is Kind.AUDIO) for u in sent.units))
    same_pictures(await pushed(bodies(unmarked)), sent)


@pytest.mark.parametrize("make", [film, hevc])
@pytest.mark.parametrize("framing", [nal.join, nal.join_annexb])
async def test_parameter_sets_in_the_pictures_replace_a_missing_header(
    make: Callable[[], Source], framing: Callable[[list[bytes]], bytes]
) -> None:
    sent = make()
    video = sent.tracks.video
    assert video is not None
    sets = [one for kind in NAL_CODECS[video.codec].parse_record(video.config).sets for one in kind]

    def change(unit: AccessUnit) -> list[bytes]:
        return [framing([*(sets if unit.key else []), *nal.split(unit.payload)])]

    silent = sent.only(Kind.VIDEO)
    sink = await pushed(bodies(silent, change, headers=False))
    same_pictures(sink, silent)
    track = sink.tracks[0].video
    assert track is not None and track.codec is video.codec


async def test_a_new_size_in_the_pictures_is_a_new_announcement() -> None:
    small, large = film(), h264("640x360", seconds=1, gop=15).shifted(2_000)
    assert small.tracks.video is not None and large.tracks.video is not None
    sets = [one for kind in NAL_CODECS[Codec.H264].parse_record(large.tracks.video.config).sets for one in kind]

    def change(unit: AccessUnit) -> list[bytes]:
        return [nal.join([*(sets if unit.key else []), *nal.split(unit.payload)])]

    header = (VIDEO_INDEX, 0, track_body(small.tracks.video))
    sink = await pushed([*bodies(small), header, *bodies(large, change, headers=False), header])
    sizes = [NAL_CODECS[Codec.H264].parse_record(t.video.config).sps for t in sink.tracks if t.video]
    assert sizes == [
        NAL_CODECS[Codec.H264].parse_record(track.config).sps for track in (small.tracks.video, large.tracks.video)
    ]
    same_pictures(sink, replace(small, units=(*small.units, *large.units)))


async def test_a_push_ends_although_its_last_picture_changes_the_tracks_too_often() -> None:
    small, large = film().only(Kind.VIDEO), h264("640x360", seconds=1, gop=15).shifted(2_000).only(Kind.VIDEO)
    assert large.tracks.video is not None
    sets = [one for kind in NAL_CODECS[Codec.H264].parse_record(large.tracks.video.config).sets for one in kind]
    header, key, one, *_ = bodies(small)
    more = (VIDEO_INDEX, one[1], b"\x27\x01\0\0\0" + nal.join([b"\x41\x01"]))  # from now on, pictures wait
    last = bodies(large, lambda unit: [nal.join([*sets, *nal.split(unit.payload)])], headers=False)[0]
    hub, now = builders.hub(), time.monotonic()
    publisher = publish(hub)
    made: list[Converter] = []

    def make(deliver: Callable[[AccessUnit], None]) -> Converter:
        made.append(Converter(deliver))
        return made[-1]

    intake = FlvIntake(publisher, make)
    intake.take_media(AUDIO_INDEX, 0, b"\xb6" + bytes(40), 1.7e9, now)  # Speex
    for index, at, body in (header, key, one, more, last):
        intake.take_media(index, at, body, 1.7e9, now)
    for n in range(MAX_CHANGES):
        publisher.count_change(now + 2 * n)
    intake.finish(now + 2 * MAX_CHANGES)
    assert publisher.end_reason is EndReason.KEPT_CHANGING
    assert [converter.closed for converter in made] == [1]
    hub.drain()
    await hub.drained()


async def test_h265_that_is_marked_as_h264_is_h265() -> None:
    sent = hevc()

    def legacy(body: bytes) -> bytes:
        """A body of codec id 7 instead of 12 or of Enhanced RTMP."""
        assert body[1:5] == b"hvc1"
        kind, packet = body[0] >> 4 & 7, body[0] & 15
        head = bytes((kind << 4 | 7, packet and 1))
        return head + (body[5:8] + body[8:] if packet == 1 else bytes(3) + body[5:])

    changed = [(i, at, legacy(body) if i == VIDEO_INDEX else body) for i, at, body in bodies(sent)]
    sink = await pushed(changed)
    same_pictures(sink, sent)
    track = sink.tracks[0].video
    assert track is not None and track.codec is Codec.H265


@pytest.mark.parametrize("with_header", [True, False])
async def test_adts_headers_are_removed_and_replace_a_missing_header(with_header: bool) -> None:
    sent = film()
    audio = sent.tracks.audio
    assert audio is not None
    adts = aac.Adts(aac.parse_asc(audio.config))
    frames = sent.of(Kind.AUDIO)
    wrapped = [replace(u, payload=adts.make_header(len(u.payload)) + u.payload) for u in frames]
    sound: Bodies = [(AUDIO_INDEX, u.dts, unit_body(u)) for u in wrapped]
    sink = await pushed([*([(AUDIO_INDEX, 0, track_body(audio))] if with_header else []), *sound])
    assert [(u.dts, u.payload) for u in sink.units] == [(u.dts, u.payload) for u in frames]
    # A header does not say what the configuration may add, such as SBR.
    assert sink.tracks[0].audio == replace(audio, config=audio.config if with_header else audio.config[:2])


async def test_several_adts_frames_in_a_body_are_as_many_units() -> None:
    sent = film()
    audio = sent.tracks.audio
    assert audio is not None
    adts = aac.Adts(aac.parse_asc(audio.config))
    frames = sent.of(Kind.AUDIO)[:4]
    data = b"".join(adts.make_header(len(u.payload)) + u.payload for u in frames)
    sink = await pushed(
        [(AUDIO_INDEX, 0, track_body(audio)), (AUDIO_INDEX, 0, unit_body(replace(frames[0], payload=data)))]
    )
    assert [(u.dts, u.payload) for u in sink.units] == [
        (1024_000 * n // 44_100, u.payload) for n, u in enumerate(frames)
    ]


async def test_units_without_a_picture_are_bounded() -> None:
    sent = film()
    sei = nal.join([b"\x06" + bytes(range(1, 200)) * 300])
    alone = [(VIDEO_INDEX, 0, b"\x27\x01\0\0\0" + sei)] * 50
    header, *rest = bodies(sent)
    same_pictures(await pushed([header, *alone, *rest]), sent)


class Converter:
    """Makes one frame of AAC of each frame of sound. closed: the number of calls of `close`."""

    def __init__(self, deliver: Callable[[AccessUnit], None]) -> None:
        self.deliver = deliver
        self.closed = 0

    def change(self, track: MediaTrack, foreign: ForeignSound | None) -> None:
        assert foreign is not None or track.codec is not Codec.AAC or aac.is_unusual(track.config)

    def give(self, unit: AccessUnit) -> None:
        self.deliver(replace(unit, track=MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90"), payload=b"made"))

    def close(self) -> None:
        self.closed += 1


async def test_sound_whose_channels_have_no_number_is_converted() -> None:
    """Browsers refuse a program_config_element, and then show no picture at all."""
    sent = film()
    side = bytes.fromhex("118004c844002000c40d4c61766335392e33372e31303056e500")  # 5.1(side) by ffmpeg
    assert aac.parse_asc(side).channels == 6
    hub = builders.hub()
    publisher = publish(hub)
    sink = Recorder()
    publisher.stream.attach(sink)
    intake = FlvIntake(publisher, Converter)
    for index, at, body in bodies(sent):
        is_header = index == AUDIO_INDEX and body[1] == 0
        intake.take_media(index, at, body[:2] + side if is_header else body, 1.7e9, time.monotonic())
    intake.finish(time.monotonic())
    audio = sink.tracks[0].audio
    assert audio is not None and aac.parse_asc(audio.config).channels == 2
    assert len(sink.tracks) == 1
    assert {unit.payload for unit in of(sink, Kind.AUDIO)} == {b"made"}
    same_pictures(sink, sent)
    hub.drain()
    await hub.drained()


def with_short_lengths(video: MediaTrack) -> MediaTrack:
    """A track whose record says that lengths have two bytes."""
    record = bytearray(video.config)
    record[4 if video.codec is Codec.H264 else 21] ^= 2
    return replace(video, config=bytes(record))


@pytest.mark.parametrize("of_film", [film, hevc])
async def test_short_lengths_become_those_that_browsers_play(of_film: Callable[[], Source]) -> None:
    sent = of_film()
    video = sent.tracks.video
    assert video is not None
    short = bodies(sent, lambda unit: [nal.join(nal.split(unit.payload), 2)])
    header = short.index((VIDEO_INDEX, 0, track_body(video)))
    short[header] = (VIDEO_INDEX, 0, track_body(with_short_lengths(video)))
    sink = await pushed(short)
    same_pictures(sink, sent)
    assert [tracks.video for tracks in sink.tracks] == [video]


@pytest.mark.parametrize(("of_film", "written"), [(film, bytes(3)), (hevc, bytes.fromhex("010101600000009000000000"))])
async def test_profile_and_level_of_a_record_are_those_of_its_pictures(
    of_film: Callable[[], Source], written: bytes
) -> None:
    """RootEncoder up to 2.8.0 reads them at a wrong place of the sequence parameter set of H.265: its level is 0."""
    sent = of_film()
    video = sent.tracks.video
    assert video is not None
    wrong = replace(video, config=video.config[:1] + written + video.config[1 + len(written) :])
    pushes = bodies(sent)
    pushes[pushes.index((VIDEO_INDEX, 0, track_body(video)))] = (VIDEO_INDEX, 0, track_body(wrong))
    sink = await pushed(pushes)
    same_pictures(sink, sent)
    assert [tracks.video for tracks in sink.tracks] == [video]


async def test_a_new_size_in_pictures_with_short_lengths_is_announced_with_the_usual_ones() -> None:
    small, large = film().only(Kind.VIDEO), h264("640x360", seconds=1, gop=15).shifted(2_000).only(Kind.VIDEO)
    assert small.tracks.video is not None and large.tracks.video is not None
    sets = [one for kind in NAL_CODECS[Codec.H264].parse_record(large.tracks.video.config).sets for one in kind]

    def change(unit: AccessUnit) -> list[bytes]:
        return [nal.join([*(sets if unit.key and unit.dts >= 2_000 else []), *nal.split(unit.payload)], 2)]

    both = replace(small, units=(*small.units, *large.units))
    header = (VIDEO_INDEX, 0, track_body(with_short_lengths(small.tracks.video)))
    sink = await pushed([header, *bodies(both, change, headers=False)])
    assert [tracks.video for tracks in sink.tracks] == [small.tracks.video, large.tracks.video]
    same_pictures(sink, both)


def video_of(sent: Source) -> MediaTrack:
    assert sent.tracks.video is not None
    return sent.tracks.video


def sets_of(sent: Source) -> list[bytes]:
    """The parameter sets of a film, in the order of the record."""
    video = video_of(sent)
    return [one for kind in NAL_CODECS[video.codec].parse_record(video.config).sets for one in kind]


def with_record(sent: Source, record: bytes, change: Callable[[AccessUnit], list[bytes]] | None = None) -> Bodies:
    """The bodies of a push with another record."""
    track = replace(video_of(sent), config=record)
    return [(VIDEO_INDEX, 0, track_body(track)), *bodies(sent.only(Kind.VIDEO), change, headers=False)]


def avcc(sps: list[bytes], pps: list[bytes]) -> bytes:
    """An avcC record of any bytes."""
    head = b"\x01\x42\xc0\x1e\xff" + bytes((0xE0 | len(sps),))
    return head + nal.join(sps, 2) + bytes((len(pps),)) + nal.join(pps, 2)


def with_start_codes(sent: Source) -> bytes:
    sps, pps = (nal.START_CODE + one for one in sets_of(sent))
    return avcc([sps], [pps])


def in_one_field(sent: Source) -> bytes:
    """The whole of csd-0 in place of the SPS."""
    return avcc([nal.join_annexb(sets_of(sent))], [])


def in_one_array(sent: Source) -> bytes:
    """The whole of csd-0, as a VPS of HEVC."""
    units = nal.join([nal.join_annexb(sets_of(sent))], 2)
    return video_of(sent).config[:22] + b"\x01\xa0\0\x01" + units


@pytest.mark.parametrize(("of_film", "record"), [(film, with_start_codes), (film, in_one_field), (hevc, in_one_array)])
async def test_start_codes_in_a_record_divide_its_parameter_sets(
    of_film: Callable[[], Source], record: Callable[[Source], bytes]
) -> None:
    sent = of_film()
    sink = await pushed(with_record(sent, record(sent)))
    silent = sent.only(Kind.VIDEO)
    same_pictures(sink, silent)
    codec = NAL_CODECS[video_of(sent).codec]
    (tracks,) = sink.tracks
    assert tracks.video is not None
    assert codec.parse_record(tracks.video.config).sets == codec.parse_record(video_of(sent).config).sets
    assert nal.SHORT_START + sets_of(sent)[0][:1] not in tracks.video.config


async def test_picture_parameter_sets_of_key_frames_complete_a_record() -> None:
    """mpegts.js ends at a record without them."""
    sent = film()
    sps, pps = sets_of(sent)
    sink = await pushed(
        with_record(sent, avcc([sps], []), lambda u: [nal.join([*([pps] if u.key else []), *nal.split(u.payload)])])
    )
    same_pictures(sink, sent.only(Kind.VIDEO))
    tracks = sink.tracks[-1].video
    assert tracks is not None and NAL_CODECS[Codec.H264].parse_record(tracks.config).sets == ((sps,), (pps,))


@pytest.mark.parametrize("kept", [0, 1])
async def test_pictures_whose_parameter_sets_never_come_are_explained(kept: int) -> None:
    """A track without them was announced: no page played, and nothing was said."""
    sent = film()
    hub = builders.hub()
    publisher = publish(hub)
    sink = Recorder()
    publisher.stream.attach(sink)
    intake = FlvIntake(publisher)
    sound = [body for body in bodies(sent) if body[0] == AUDIO_INDEX]
    pictures = with_record(sent, avcc(sets_of(sent)[:kept], []))
    for index, at, body in sorted([*pictures, *sound], key=lambda body: body[1]):
        intake.take_media(index, at, body, 1.7e9, time.monotonic())
    intake.finish(time.monotonic())
    assert intake.unusable.explain() == "their parameter sets (the sequence header) did not come"
    assert not of(sink, Kind.VIDEO) and of(sink, Kind.AUDIO)
    assert [tracks.video for tracks in sink.tracks] == [None]
    hub.drain()
    await hub.drained()


@pytest.mark.parametrize(
    ("profile", "level", "named"),
    [(66, 0, (66, 40)), (77, 9, (77, 40)), (66, 255, (66, 40)), (88, 30, (77, 30)), (1, 30, (77, 30))],
)
async def test_profiles_and_levels_that_browsers_do_not_know_are_replaced(
    profile: int, level: int, named: tuple[int, int]
) -> None:
    sent = h264(seconds=2, gop=15, bframes=0)
    sps, pps = sets_of(sent)
    unusual = sps[:1] + bytes((profile, sps[2] | 0x40, level)) + sps[4:]
    (tracks,) = (await pushed(with_record(sent, avcc([unusual], [pps])))).tracks
    assert tracks.video is not None
    (found,) = NAL_CODECS[Codec.H264].parse_record(tracks.video.config).sps
    assert (found[1], found[3], found[4:]) == (*named, sps[4:])
    assert tracks.video.config[1:4] == found[1:4]


def private_apart(unit: AccessUnit) -> list[bytes]:
    """A private unit in a body of its own, as cameras write their data."""
    private = b"\x1e" if unit.track.codec is Codec.H264 else b"\x70\x01"
    return [nal.join([private + b"detected: nothing"]), unit.payload]


@pytest.mark.parametrize("of_film", [film, hevc])
async def test_private_units_in_bodies_of_their_own_are_no_pictures(of_film: Callable[[], Source]) -> None:
    """Decoders of browsers end at a picture without a slice."""
    sent = of_film()
    sink = await pushed(bodies(sent, private_apart))
    assert [(u.dts, u.cts, u.key) for u in of(sink, Kind.VIDEO)] == [(u.dts, u.cts, u.key) for u in sent.of(Kind.VIDEO)]
    for got, unit in zip(of(sink, Kind.VIDEO), sent.of(Kind.VIDEO), strict=True):
        assert got.payload.endswith(unit.payload)


@pytest.mark.parametrize("offset", [(1 << 23) - 1, -(1 << 23), 5_000])
async def test_impossible_composition_offsets_are_left_out(offset: int) -> None:
    """Relays that read a negative offset without its sign write 16,777 s; VideoCore wrote others."""
    sent = h264(seconds=2, gop=15, bframes=0).only(Kind.VIDEO)
    wrong = replace(sent, units=tuple(replace(unit, cts=offset) for unit in sent.units))
    same_pictures(await pushed(bodies(wrong)), sent)


@pytest.mark.parametrize(("fourcc", "name"), [(b"mp4a", "AAC"), (b"Opus", "Opus"), (b"fLaC", "FLAC")])
async def test_sound_without_its_header_is_named_by_its_codec(fourcc: bytes, name: str) -> None:
    sent = film()
    hub = builders.hub()
    publisher = publish(hub)
    intake = FlvIntake(publisher)
    sound = [(AUDIO_INDEX, 0, b"\x91" + fourcc + b"\xfc" + bytes(20))]
    for index, at, body in [*sound, *bodies(sent.only(Kind.VIDEO))]:
        intake.take_media(index, at, body, 1.7e9, time.monotonic())
    intake.finish(time.monotonic())
    assert intake.unusable.left_out_text == f"The encoder sends {name} without its sequence header: connect it again."
    hub.drain()
    await hub.drained()


async def test_av1_without_a_header_has_the_record_of_its_first_key_frame() -> None:
    """Without a record, neither LL-HLS nor DASH began."""
    sent = source(*pictures("160x90"), "-t", "1", "-c:v", "libsvtav1", "-preset", "12")
    sink = await pushed(bodies(sent, headers=False))
    (tracks,) = sink.tracks
    assert tracks.video is not None
    first = sent.of(Kind.VIDEO)[0].payload
    assert tracks.video.config[:3] == video_of(sent).config[:3]
    assert av1.sequence_header(tracks.video.config[4:]) == av1.sequence_header(first)
    assert [u.payload for u in of(sink, Kind.VIDEO)] == [u.payload for u in sent.of(Kind.VIDEO)]
