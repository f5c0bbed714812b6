"""CMCD data of players is read in both versions and in all places; everything else is ignored."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.diagnosis import cmcd
from gateway.diagnosis.cmcd import Cmcd

V1 = 'bl=21300,br=3200,bs,cid="a,su,br=9",d=4004,mtp=25400,nor="..%2Fb.m4s",ot=v,sf=h,sid="6e2f-b550",st=l,su'
V2 = (
    'bl=(5000;v),br=(3200;v 128;a),bsa=(2),bsd=(300),bsda=(900),e=ps,ltc=1200,msd=812,pb=(2800;v),sf=d,sid="x y",sn=4,'
    "sta=s,ts=1795328459347,v=2"
)
OURS = 'bsa=(0),bsda=(0),e=t,ltc=595,millrace-h=360,millrace-p=flv,msd=622,sid="749c",sn=1,st=l,ts=1,v=2'


def test_version_1_is_read_from_a_query():
    found = cmcd.read_query(f"sign=1-a&CMCD={quote(V1)}&x=1")
    assert found == Cmcd(hash("6e2f-b550"), "h", starting=True, starved=True, bitrate=3200)


def test_a_query_may_be_escaped_in_any_way():
    expected = cmcd.parse(V1)
    assert expected is not None
    for escaped in (quote(V1), quote(V1, safe=""), V1, quote(V1, safe="=,"), quote(V1).lower()):
        found = cmcd.read_query(f"CMCD={escaped}")
        assert found is not None
        assert found[1:] == expected[1:]


def test_version_2_is_read_with_its_lists():
    assert cmcd.parse(V2) == Cmcd(
        hash("x y"), "d", True, False, 2800, startup=812, latency=1200, stall_ms=300, stalls=2, stalled_ms=900
    )
    assert cmcd.read_query("CMCD=" + quote(V2)) == cmcd.parse(V2)


def test_a_report_of_our_own_player_is_read():
    found = cmcd.parse(OURS)
    assert found is not None
    assert (found.protocol, found.height, found.startup, found.stalls) == ("flv", 360, 622, 0)


def test_cmcd_headers_are_combined():
    headers = {
        "host": "a",
        "cmcd-object": "br=3200,ot=v",
        "cmcd-request": "bl=21300,su",
        "cmcd-session": 'sf=d,sid="abc"',
        "cmcd-status": "bs",
    }
    assert cmcd.read_headers(headers) == Cmcd(hash("abc"), "d", starting=True, starved=True, bitrate=3200)
    assert cmcd.read_headers({"host": "a"}) is None


def test_an_audio_bitrate_is_not_used_as_the_video_bitrate():
    found = cmcd.parse('br=128,ot=a,sid="s"')
    assert found is not None and found.bitrate is None


@pytest.mark.parametrize(
    "line", ["", "sid", 'sid=""', f'sid="{"a" * 65}"', 'sid="a', "br=1", 'sid="s"' + ",a" * 600, "\0", "%%%", '"' * 900]
)
def test_lines_that_are_too_long_or_lack_a_session_are_ignored(line: str):
    assert cmcd.parse(line) is None
    assert cmcd.read_query("CMCD=" + quote(line)) is None


@pytest.mark.parametrize("value", ["", "-1", "1e9", "99999999999", "(", "()", "(;v)", "x", "1 2", "²"])
def test_invalid_numbers_are_read_as_unknown(value: str):
    found = cmcd.parse(f'sid="s",v=2,ltc={value}')
    assert found is not None
    assert found.latency is None


@pytest.mark.parametrize("start", ['cid="', r'cid="\"', r'cid="a",nor="\\\"', '"' * 3])
def test_an_unterminated_string_extends_to_the_end_of_the_line(start: str):
    """So each character is read once. Otherwise each quote would start a new search through the rest."""
    line = f'sid="s",{start},su,bs,br=9'
    assert cmcd.parse(line) == cmcd.read_query("CMCD=" + quote(line)) == Cmcd(hash("s"))
    assert cmcd.read_headers({"cmcd-session": 'sid="s"', "cmcd-status": f"{start},su,bs,br=9"}) == Cmcd(hash("s"))


def test_other_query_parameters_are_not_read_as_cmcd():
    assert cmcd.read_query(f"XCMCD={quote(V1)}") is None
    assert cmcd.read_query("") is None


@pytest.mark.parametrize("news", ["bs", "su"])
@pytest.mark.parametrize(
    "place", ["{},sid=%22a%22", "sid=%22a%22,{}", "br=1%2C{}%2Csid=%22a%22", "sid=%22a%22%2C{}&x=1"]
)
def test_startup_and_stall_keys_are_found_anywhere_in_a_query(news: str, place: str):
    query = "CMCD=" + place.format(news)
    assert cmcd.is_start_or_stall(query, {})
    assert not cmcd.is_start_or_stall(query.replace(news, "st=l"), {})


def test_startup_and_stall_keys_are_found_in_headers():
    assert cmcd.is_start_or_stall("", {"cmcd-status": "bs"})
    assert cmcd.is_start_or_stall("", {"cmcd-request": "bl=1,su"})
    assert not cmcd.is_start_or_stall("", {"cmcd-request": "bl=1"})


# ---- against a plain reading ----

KEYS = (
    "bl",
    "br",
    "bs",
    "bsa",
    "bsd",
    "bsda",
    "cid",
    "d",
    "ltc",
    "msd",
    "mtp",
    "nor",
    "ot",
    "pb",
    "sf",
    "st",
    "su",
    "tb",
)
VALUES = {
    "bs": st.none(), "su": st.none(), "ot": st.sampled_from("avm"), "sf": st.sampled_from("hdo"),
    "st": st.sampled_from("lv"), "cid": st.text("abs,u=%. ", max_size=12), "nor": st.text("abs,u=%. ", max_size=12),
}  # fmt: skip
NUMBERS = st.integers(0, 999_999_999)


def split(line: str) -> dict[str, str]:
    """The keys of a line, parsed by the grammar."""
    parts = re.findall(r'([a-z]+)(?:=("[^"]*"|[^,"]*))?(?:,|$)', line)
    return {key: value.strip('"') for key, value in parts}


@given(st.data(), st.sets(st.sampled_from(KEYS)), st.booleans())
def test_the_fast_search_equals_a_plain_parser(data, keys, version2):
    fields = []
    for key in sorted(keys):
        value = data.draw(VALUES.get(key, NUMBERS))
        fields.append(key if value is None else f'{key}="{value}"' if key in ("cid", "nor") else f"{key}={value}")
    fields.append('sid="one"')
    line = ",".join(fields + ["v=2"] * version2)
    expected = split(line)
    found = cmcd.read_query("CMCD=" + quote(line, safe=""))
    assert found is not None
    assert (found.starting, found.starved) == ("su" in expected, "bs" in expected)
    assert found.format == (expected.get("sf", "") if expected.get("sf") in ("h", "d") else "")
    picture = expected.get("br") if expected.get("ot") != "a" else None
    picture = expected.get("pb", picture) if version2 else picture
    assert found.bitrate == (None if picture is None else int(picture))
    for name, key in (("startup", "msd"), ("latency", "ltc"), ("stalls", "bsa"), ("stalled_ms", "bsda")):
        wanted = expected.get(key) if version2 else None
        assert getattr(found, name) == (None if wanted is None else int(wanted))


@given(st.text(max_size=300))
def test_any_text_is_parsed_without_an_exception(text):
    cmcd.parse(text)
    cmcd.read_query("CMCD=" + text)
    cmcd.is_start_or_stall("CMCD=" + text, {})
