"""The forms of stream ids (contract: push, play, and inputs)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.srt.stream_id import InvalidStreamId, StreamId, parse_stream_id

BMD = "bmd_uuid=0-1,bmd_name=Studio"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("publish:a1?sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:a1?sign=9-k&input=backup", StreamId("a1", True, {"sign": "9-k", "input": "backup"})),
        ("publish:a1", StreamId("a1", True, {})),
        ("read:a1", StreamId("a1", False, {})),
        ("read:a1?sign=9-k", StreamId("a1", False, {"sign": "9-k"})),
        ("a1?sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("a1", StreamId("a1", False, {})),
        ("#!::r=a1,m=publish,sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("#!::m=publish,r=a1,sign=9-k,input=b", StreamId("a1", True, {"sign": "9-k", "input": "b"})),
        ("#!::r=a1,m=request", StreamId("a1", False, {})),
        ("#!::r=a1", StreamId("a1", False, {})),
        ("#!::r=a1?sign=9-k,m=publish", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:a1?sign=9%2Dk", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:/a1?sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:stream/a1?sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("live/a1?sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:a1?sign=9-k ", StreamId("a1", True, {"sign": "9-k"})),
        ("read:live/a1/", StreamId("a1", False, {})),
        ("read:../a1", StreamId("../a1", False, {})),  # no name of a stream
        ("#!::r=a1,sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("#!::r=a1,m=request,sign=9-k", StreamId("a1", False, {"sign": "9-k"})),
        # The whole stream id is percent-encoded.
        ("%23!::r=a1,m=publish,sign=9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("%23%21%3A%3Ar%3Da1%2Cm%3Dpublish%2Csign%3D9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:a1%3Fsign%3D9-k", StreamId("a1", True, {"sign": "9-k"})),
        ("publish:a1%FF", StreamId("a1\N{REPLACEMENT CHARACTER}", True, {})),  # no name of a stream
        # Blackmagic: the stream key is the user's name, and people name their encoder.
        (f"#!::{BMD},u=a1?sign=9-k", StreamId("a1", True, {"sign": "9-k", "bmd_uuid": "0-1", "bmd_name": "Studio"})),
        (f"#!::u=a1?sign=9-k,{BMD}", StreamId("a1", True, {"sign": "9-k", "bmd_uuid": "0-1", "bmd_name": "Studio"})),
        (f"#!::{BMD},u=a1", StreamId("a1", True, {"bmd_uuid": "0-1", "bmd_name": "Studio"})),
        (
            f"#!::{BMD}, left,r=a1?sign=9-k,m=publish",
            StreamId("a1", True, {"sign": "9-k", "bmd_uuid": "0-1", "bmd_name": "Studio, left"}),
        ),
    ],
)
def test_the_forms(text: str, expected: StreamId) -> None:
    assert parse_stream_id(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "publish:",
        "read:?sign=1",
        "#!::m=publish",
        "#!::r=a,m=bidirectional",
        "#!::a",
        "#!::a,r=b",
        "publish:/",
        "read: ",
        "x?" + "&" * 30,
        "#!::" + "," * 30,
        "%23!::a",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InvalidStreamId):
        parse_stream_id(text)


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert parse_stream_id(text).name
    except InvalidStreamId as error:
        assert str(error)
