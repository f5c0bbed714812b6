"""Session descriptions as cameras write them."""

import pytest

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtsp.session_description import base_address, control_address, parse_description

HIKVISION = b"""v=0
o=- 1 1 IN IP4 192.168.1.64
s=Media Presentation
a=control:rtsp://192.168.1.64:554/Streaming/Channels/101/
m=video 0 RTP/AVP 96
a=control:rtsp://192.168.1.64:554/Streaming/Channels/101/trackID=1
a=rtpmap:96 H264/90000
a=fmtp:96 profile-level-id=420029; packetization-mode=1; sprop-parameter-sets=Z00AKp2oHgCJ+WbgICAgQA==,aO48gA==
m=audio 0 RTP/AVP 8
a=control:trackID=2
a=rtpmap:8 PCMA/8000
m=application 0 RTP/AVP 107
"""


def test_a_cameras_media_are_read() -> None:
    found = parse_description(HIKVISION.replace(b"\n", b"\r\n"))
    video, audio, other = found.media
    assert (video.kind, video.payload_type, video.encoding, video.rate) == ("video", 96, "H264", 90_000)
    assert video.parameters["sprop-parameter-sets"] == "Z00AKp2oHgCJ+WbgICAgQA==,aO48gA=="
    assert (audio.encoding, audio.rate, audio.channels, audio.control) == ("PCMA", 8000, 1, "trackID=2")
    assert other.kind == "application"
    assert found.control.endswith("/101/")


def test_a_static_payload_type_needs_no_rtpmap() -> None:
    (medium,) = parse_description(b"m=audio 0 RTP/AVP 0\n").media
    assert (medium.encoding, medium.rate) == ("PCMU", 8000)


@pytest.mark.parametrize("number", [97, 40])
def test_the_parameters_of_the_only_format_may_have_another_number(number: int) -> None:
    """Hikvision's media servers (issue 658 of gortsplib), and a camera with LATM (issue 3590 of mediamtx)."""
    text = b"m=audio 0 RTP/AVP 104\na=rtpmap:104 MPEG4-GENERIC/16000\na=fmtp:%d mode=AAC-hbr;config=1408\n" % number
    (medium,) = parse_description(text).media
    assert medium.parameters == {"mode": "AAC-hbr", "config": "1408"}
    (several,) = parse_description(text.replace(b"104\n", b"104 0\n", 1)).media
    assert several.parameters == {}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("profile-level-id=420029; packetization-mode=1; sprop-parameter-sets=", "H264"),
        ("packetization-mode=0;profile-id=1;sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=", "H265"),
        ("profile-level-id=420029; sprop-vps=QAE=", "H265"),
    ],
)
def test_h265_with_the_parameters_of_h264_is_h264(parameters: str, expected: str) -> None:
    """Ezviz C6N cameras, which send H.264 only, describe it so (issue 264 of go2rtc)."""
    text = f"m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 {parameters}\n"
    (medium,) = parse_description(text.encode()).media
    assert medium.encoding == expected


def test_media_without_payload_types_are_left_out() -> None:
    found = parse_description(b"a=control:*\nm=application 0 UDP/TLS x\na=control:one\nm=audio 0 RTP/AVP 8\n")
    assert [medium.encoding for medium in found.media] == ["PCMA"]
    assert found.control == "*"


def test_a_description_that_is_too_large_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_description(HIKVISION * 200)


@pytest.mark.parametrize(
    ("base", "control", "expected"),
    [
        ("rtsp://h/a/", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a?x=1", "trackID=1", "rtsp://h/a?x=1/trackID=1"),
        ("rtsp://h/a", "/b/c", "rtsp://h/b/c"),
        ("rtsp://h/a", "rtsp://h/other", "rtsp://h/other"),
        ("rtsp://h/a", "*", "rtsp://h/a"),
        ("rtsp://h/a", "", "rtsp://h/a"),
    ],
)
def test_control_addresses(base: str, control: str, expected: str) -> None:
    assert control_address(base, control) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "rtsp://h:8554/a?x=1"),
        ("rtsp://other/b/", "rtsp://other/b/"),
        ("/b/", "rtsp://h:8554/b/"),
        ("b/", "rtsp://h:8554/b/"),
        ("192.168.253.220:1935/", "rtsp://192.168.253.220:1935/"),
    ],
)
def test_the_base_may_have_no_host_or_no_scheme(header: str, expected: str) -> None:
    """Anjvision cameras leave out the scheme (issue 356 of moonfire-nvr, issue 1852 of go2rtc)."""
    assert base_address("rtsp://h:8554/a?x=1", header) == expected
