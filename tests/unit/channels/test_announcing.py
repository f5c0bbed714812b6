"""The fields `announce` and `upcoming`: what is accepted, what is shown, and masked addresses."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import announcing, fields
from gateway.channels.announcing import Upcoming, masked, parse_announce, parse_upcoming, restored
from gateway.channels.channel import Channel, changes, create_item
from gateway.channels.message_target import MASK
from gateway.channels.stream_key import SigningSecrets
from gateway.ports.errors import InvalidField

AT = datetime(2030, 1, 31, 18, tzinfo=UTC).timestamp()
SECRETS = SigningSecrets("secret")


@pytest.mark.parametrize(
    "at", ["2030-01-31T18:00:00Z", "2030-01-31T19:00:00+01:00", AT, int(AT) * 1000, str(int(AT)), "2030-01-31 18:00Z"]
)
def test_a_time_with_a_zone_or_an_epoch_is_accepted(at: Any):
    assert parse_upcoming({"title": "Final", "at": at}) == Upcoming("Final", AT, "")


@pytest.mark.parametrize(
    "value",
    [
        *("text", [], {"title": "x"}, {"at": AT}, {"title": " ", "at": AT}, {"title": "x", "at": AT, "more": 1}),
        *(
            {"title": "x", "at": at}
            for at in ("2030-01-31T18:00:00", "soon", True, -1, 1e300, float("nan"), None, "9" * 50)
        ),
        *({"title": t, "at": AT} for t in ("a\0b", "\ud800", "x" * 257, 5)),
        {"title": "x", "at": AT, "text": "x" * 2001},
    ],
)
def test_other_values_are_refused(value: Any):
    with pytest.raises(InvalidField):
        fields.check("upcoming", value)


NAMES = st.sampled_from(["title", "at", "text"]) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
)


@given(JSON)
def test_any_value_is_read_or_refused(value: Any):
    for name in ("upcoming", "announce"):
        try:
            fields.check(name, value)
        except InvalidField as error:
            assert error.message


def test_a_past_time_and_no_show_are_not_shown():
    channel = Channel({"id": "c", "upcoming": {"title": "Final", "at": AT}})
    assert channel.upcoming(AT - 1) is not None
    assert channel.upcoming(AT) is None
    assert [Channel({"id": "c", "upcoming": none}).upcoming(0) for none in (None, {}, "x")] == [None, None, None]
    fields.check("upcoming", None)
    fields.check("upcoming", {})


def test_addresses_of_targets_are_masked_and_come_back():
    stored = ["ntfy://topic-one", "ntfy://topic-two", "https://example.com/hook/secret"]
    shown = masked(stored)
    assert shown == [f"ntfy://{MASK}", f"ntfy://{MASK}", f"https://example.com/hook/{MASK}"]
    assert restored([shown[2], "ntfy://third", shown[0], shown[1]], stored) == [
        stored[2], "ntfy://third", stored[0], stored[1],
    ]  # fmt: skip
    with pytest.raises(InvalidField):
        restored([f"https://evil.example/{MASK}"], stored)
    with pytest.raises(InvalidField):
        restored([shown[0]] * 3, stored)
    assert masked("not a list") is None
    assert masked(["nonsense"]) == [MASK]


@pytest.mark.parametrize("value", ["ntfy://topic", ["x"], [5], ["ntfy://topic"] * 21, None, [f"ntfy://{MASK}"]])
def test_other_targets_are_refused(value: Any):
    with pytest.raises(InvalidField):
        fields.check(announcing.ANNOUNCE, value)


def test_equal_targets_get_one_message():
    assert parse_announce(["ntfy://topic", "ntfy://topic"]) == ("ntfy://topic",)


def test_a_channel_keeps_its_addresses_if_masked_ones_are_sent_back():
    item = create_item({"outdate": "2090-01-01", "announce": ["ntfy://topic"]}, 0, SECRETS, 0)
    channel = Channel(item)
    assert changes(channel, {"announce": masked(item["announce"])}, SECRETS, 0) == {}
    changed = changes(channel, {"announce": [f"ntfy://{MASK}", "ntfy://other"]}, SECRETS, 0)
    assert changed == {"announce": ["ntfy://topic", "ntfy://other"]}
    with pytest.raises(InvalidField):
        create_item({"outdate": "2090-01-01", "announce": [f"ntfy://{MASK}"]}, 0, SECRETS, 0)
