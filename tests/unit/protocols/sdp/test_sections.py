"""The lines of session descriptions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp import sections as module
from gateway.protocols.sdp.sections import decimal, parse_sections


def test_attributes_belong_to_the_section_before_them() -> None:
    session, video, audio = parse_sections(
        b"v=0\r\na=group:BUNDLE 0\r\nm=video 9/2 RTP/AVP 96\na=mid:0\na=recvonly\nm=audio 0 RTP/AVP 0\na=MID: 1 \n"
    )
    assert (session.kind, session.value("group"), session.value("mid")) == ("", "BUNDLE 0", None)
    assert (video.kind, video.port, video.protocol, video.formats) == ("video", 9, "RTP/AVP", ("96",))
    assert (video.value("mid"), video.value("recvonly")) == ("0", "")
    assert (audio.port, audio.values("mid")) == (0, ["1"])


def test_formats_are_those_of_the_m_line() -> None:
    (_, video) = parse_sections(
        b"m=video 9 RTP/AVP 96 0 96 300 x\na=fmtp:96 Mode=1; b=2=3;;=4; flag\na=rtpmap:96 h264/90000\n"
        b"a=rtpmap:97 VP8/90000\na=rtpmap:0 PCMU/0/99\n"
    )
    first, second = video.rtp_formats().values()
    assert (first.encoding, first.rate, first.channels) == ("H264", 90_000, 1)
    assert first.parameters == {"mode": "1", "b": "2=3", "flag": ""}
    assert (second.encoding, second.rate, second.channels) == ("PCMU", 90_000, 1)


@pytest.mark.parametrize("line", ["m=video 9 RTP/AVP", "m=", "m=vid\u00e9o 9 RTP/AVP 96"])
def test_a_malformed_m_line_is_a_section_without_formats(line: str) -> None:
    section = parse_sections(line.encode())[1]
    assert (section.kind, section.formats) == ("", ())


def test_lines_with_control_characters_are_ignored() -> None:
    (session,) = parse_sections(b"a=one:x\x00y\r\na=two:x\ry\r\na=three:x\ty\r\na\r\n=x\r\n")
    assert session.attributes == [("three", "x y")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a=" + b"x" * module.MAX_LINE, "line"),
        (b"\n" * (module.MAX_BYTES + 1), "bytes"),
        (b"m=video 9 RTP/AVP 96\n" * (module.MAX_MEDIA + 1), "media"),
        (b"a=x\n" * (module.MAX_ATTRIBUTES + 1), "attributes"),
    ],
)
def test_a_description_above_a_limit_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        parse_sections(data)


def test_a_description_exactly_at_the_limits_is_read() -> None:
    assert len(parse_sections(b"m=video 9 RTP/AVP 96\n" * module.MAX_MEDIA)) == module.MAX_MEDIA + 1
    assert len(parse_sections(b"a=x\n" * module.MAX_ATTRIBUTES)[0].attributes) == module.MAX_ATTRIBUTES
    assert parse_sections(b"a=" + b"x" * (module.MAX_LINE - 2))[0].value("x" * (module.MAX_LINE - 2)) == ""


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("", -1), ("-1", -1), ("1" * 11, -1), ("\u0663", -1), ("²", -1)])
def test_only_short_ascii_numbers_are_numbers(text: str, value: int) -> None:
    assert decimal(text) == value


@given(st.lists(st.tuples(st.sampled_from("amvx"), st.text("abc:;=/ 019\r\t\u00e9", max_size=12)), max_size=20))
def test_values_never_contain_a_line_break(lines: list[tuple[str, str]]) -> None:
    text = "\r\n".join(f"{kind}={value}" for kind, value in lines)
    found = parse_sections(text.encode())
    assert len(found) == 1 + sum(
        kind == "m" and "\r" not in f"{kind}={value}".replace("\t", " ").strip() for kind, value in lines
    )
    for section in found:
        for name, value in section.attributes:
            assert (name + value).isprintable()
