"""The first times of a segment, beside those that PyAV finds."""

import io

import av
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.pes import find_first_pts
from tests.support.elementary import elementary


def test_the_earliest_time_of_all_tracks_is_found() -> None:
    video, audio = elementary("h264-b"), elementary("aac")
    muxer = TsMuxer(video.track, audio.track)
    data = muxer.write_tables()
    data += b"".join(
        muxer.write_video(90_000 + take.dts, take.cts, take.key, take.payload).render() for take in video.takes[:9]
    )
    data += b"".join(packets.render() for packets in muxer.write_audio([t.payload for t in audio.takes[:9]], 70_000))
    with av.open(io.BytesIO(data), format="mpegts") as film:
        assert find_first_pts(data) == min(stream.start_time for stream in film.streams)


def test_data_that_is_no_transport_stream_has_no_times() -> None:
    assert find_first_pts(b"") is None
    assert find_first_pts(b"x" * 1880) is None


@given(st.binary(max_size=600))
def test_any_bytes_have_a_time_of_33_bits_or_none(data: bytes) -> None:
    found = find_first_pts(b"\x47\x40\x11\x30" + data)
    assert found is None or 0 <= found < 1 << 33
