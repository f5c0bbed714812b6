"""Tickets of MoQ are valid for one stream, one address and a short time."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.playback.moq.tickets import make_ticket, read_ticket

KEY, NOW = b"k" * 32, 1_700_000_000.0
TICKET = make_ticket(KEY, "c1", "2001:db8::7", NOW)


def test_a_ticket_returns_the_address_until_it_ends():
    assert read_ticket(KEY, "c1", TICKET, NOW) == "2001:db8::7"
    assert read_ticket(KEY, "c1", TICKET, NOW + 30) == "2001:db8::7"
    assert read_ticket(KEY, "c1", TICKET, NOW + 31) is None


def test_an_address_without_a_limit_is_empty():
    assert read_ticket(KEY, "c1", make_ticket(KEY, "c1", "", NOW), NOW) == ""


def test_a_ticket_of_another_stream_or_key_is_refused():
    assert read_ticket(KEY, "c2", TICKET, NOW) is None
    assert read_ticket(b"other", "c1", TICKET, NOW) is None


@given(st.integers(0, len(TICKET) - 1), st.characters(codec="ascii"))
def test_a_changed_ticket_is_refused(at: int, character: str):
    changed = TICKET[:at] + character + TICKET[at + 1 :]
    # Base64 has several texts for the same last byte; they are the same ticket.
    assert changed == TICKET or read_ticket(KEY, "c1", changed, NOW) in (None, "2001:db8::7")
    expires, client, seal = TICKET.split(".")
    assert read_ticket(KEY, "c1", f"{int(expires) + 1}.{client}.{seal}", NOW) is None


@given(st.text())
def test_any_other_text_is_refused(text: str):
    assert read_ticket(KEY, "c1", text, NOW) is None
    assert read_ticket(KEY, "c1", f"{text}.{text}.{text}", NOW) is None
