"""H.265 with start codes becomes samples with their record."""

from gateway.media import h265, nal
from gateway.media.nal_samples import NalSamples
from gateway.media.track import Codec, Kind
from tests.support import sources


def test_annex_b_becomes_the_samples_of_the_container() -> None:
    film = sources.source(
        *sources.pictures("320x180", "25"), "-t", "1", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
        "log-level=none:repeat-headers=1:keyint=10:bframes=2", "-pix_fmt", "yuv420p10le",
    )  # fmt: skip
    video = film.tracks.video
    assert video is not None
    record = h265.parse_hvcc(video.config)
    samples = NalSamples(Codec.H265, b"")
    sets = [*record.vps, *record.sps, *record.pps]
    assert samples.take(nal.join_annexb([b"\x02\x01slice"]), False) is None
    for unit in film.of(Kind.VIDEO):
        coded = [u for u in nal.split(unit.payload) if h265.nal_type(u) not in (32, 33, 34, 35)]
        head = [b"\x46\x01\x50", *sets] if unit.key else [b"\x46\x01\x50"]
        sample = samples.take(nal.join_annexb([*head, *coded]), False)
        assert sample is not None
        assert sample.key == unit.key
        assert nal.split(sample.payload) == [u.rstrip(b"\0") for u in coded]
        built = h265.parse_hvcc(sample.config)
        assert (built.sps, built.pps, built.profile, built.level) == (record.sps, record.pps, 2, record.level)
        assert sample.config[17] & 7 == 2  # ten bits
    assert samples.reorder == 2
    prefixed = film.of(Kind.VIDEO)[0]
    again = NalSamples(Codec.H265, video.config).take(prefixed.payload, True)
    assert again is not None
    assert again.payload == prefixed.payload


def test_a_length_that_looks_like_a_start_code_is_a_length() -> None:
    film = sources.source(
        *sources.pictures("320x180", "25"), "-t", "0.2", "-c:v", "libx265", "-x265-params", "log-level=none"
    )  # fmt: skip
    assert film.tracks.video is not None
    samples = NalSamples(Codec.H265, film.tracks.video.config)
    payload = (300).to_bytes(4, "big") + b"\x02\x01" + b"\x55" * 298
    made = samples.take(payload, False)
    assert made is not None
    assert made.payload == payload
