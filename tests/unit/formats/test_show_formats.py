"""Calendars and feeds: other programs read what was written, whatever the texts are."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.atom import NAMESPACE, Feed, FeedEntry, write_feed
from gateway.formats.icalendar import CalendarEvent, escaped, folded, write_calendar

AT = 1_896_112_800.0  # 2030-01-31T18:00:00Z


def event(title: str = "Final", text: str = "") -> CalendarEvent:
    return CalendarEvent("1-c1@millrace", title, text, AT, 60, "https://live.example.com/c1/", AT - 3600)


def lines(calendar: bytes) -> list[str]:
    """Returns the unfolded lines, as RFC 5545 §3.1 says."""
    return calendar.replace(b"\r\n ", b"").decode().split("\r\n")


def unescaped(text: str) -> str:
    found, rest = "", iter(text)
    for character in rest:
        if character != "\\":
            found += character
            continue
        code = next(rest)
        found += "\n" if code == "n" else code
    return found


def test_a_calendar_has_the_time_in_utc():
    assert lines(write_calendar(event())) == [
        *("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Millrace//Shows//EN", "BEGIN:VEVENT", "UID:1-c1@millrace"),
        *("DTSTAMP:20300131T170000Z", "DTSTART:20300131T180000Z", "DURATION:PT60M", "SUMMARY:Final"),
        *("URL:https://live.example.com/c1/", "END:VEVENT", "END:VCALENDAR", ""),
    ]


def test_texts_cannot_add_lines():
    calendar = write_calendar(event("a\r\nEND:VEVENT\r\nBEGIN:VALARM", "x;y,z\\ \x00\x07\u2028 end"))
    assert "SUMMARY:a\\nEND:VEVENT\\nBEGIN:VALARM" in lines(calendar)
    assert "DESCRIPTION:x\\;y\\,z\\\\ \\n end" in lines(calendar)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_each_text_comes_back_from_lines_of_75_octets(text: str):
    calendar = write_calendar(event(text))
    assert all(len(line) <= 75 for line in calendar.split(b"\r\n"))
    assert b"\n" not in calendar.replace(b"\r\n", b"")
    (found,) = [line for line in lines(calendar) if line.startswith("SUMMARY:")]
    assert escaped(unescaped(found.removeprefix("SUMMARY:"))) == escaped(text)


@given(st.text(max_size=200))
def test_folding_divides_no_character(text: str):
    pieces = folded(text.replace("\r", "").replace("\n", "")).split(b"\r\n")
    for piece in pieces:
        piece.decode()


TEXTS = st.text(max_size=60)


@given(TEXTS, TEXTS, TEXTS)
def test_a_feed_with_any_texts_is_well_formed(title: str, about: str, name: str):
    feed = Feed("urn:x:1", title, about, name, "https://a/feed.xml", "https://a/", "2030-01-01T00:00:00Z")
    entry = FeedEntry("urn:x:2", title, "2030-01-01T00:00:00Z", "2030-01-01T01:00:00Z", f"https://a/{title}")
    root = ElementTree.fromstring(write_feed(feed, [entry]))
    assert root.tag == f"{{{NAMESPACE}}}feed"
    for path in ("id", "title", "updated", "author/name", "entry/id", "entry/title", "entry/updated", "entry/link"):
        assert root.find("/".join(f"{{{NAMESPACE}}}{part}" for part in path.split("/"))) is not None, path


def test_markup_in_a_title_is_text():
    feed = Feed("urn:x:1", "<b>&]]>", "", "n", "https://a/feed.xml", "https://a/", "2030-01-01T00:00:00Z")
    assert ElementTree.fromstring(write_feed(feed, [])).findtext(f"{{{NAMESPACE}}}title") == "<b>&]]>"
