"""Slugs: which are allowed, and which channel each name leads to."""

from __future__ import annotations

import pytest

from gateway.api.routes import ROUTES
from gateway.channels.channel import Channel, changes
from gateway.channels.slugs import MAX_OLD, OLD_SLUGS, RESERVED, is_slug, read_slug
from gateway.channels.stream_key import SigningSecrets
from gateway.playback.slugs import NamedChannel, name_table
from gateway.ports.errors import InvalidField
from tests.support.playback import playing

SECRETS = SigningSecrets("a secret of sixteen")
A, B = "70ef9b07-adbe-478d-b098-d7c8efd84a98", "98724e64-bcd1-4887-af4a-60be440709aa"


@pytest.mark.parametrize("slug", ["stage", "ab", "2030", "a-b", "x" * 64])
def test_a_slug_has_lower_case_letters_digits_and_hyphens(slug):
    assert read_slug(slug) == slug


@pytest.mark.parametrize(
    "value", ["a", "x" * 65, "Stage", "a_b", "a.b", "a/b", "a b", "é1", "stage\n", "a%62", 5, None, ["ab"], A, "vod"]
)
def test_other_values_and_reserved_words_are_refused(value):
    with pytest.raises(ValueError, match="expected"):
        read_slug(value)


async def test_the_first_part_of_every_path_of_a_listener_is_reserved():
    async with playing() as server:
        router = server.listener.server.handler
        paths = [route.path for route in ROUTES] + [f"/{folder}/" for folder in router._folders]
        paths += [*router.exact_paths, *(f"/{name}" for name in router._sessions), "/stream", "/rtmps", "/whip"]
    first = {path.split("/")[1] for path in paths}
    assert {word for word in first if is_slug(word)} <= RESERVED


def test_earlier_slugs_are_remembered_up_to_a_bound():
    channel = Channel({"id": A, "slug": "s0"})
    for number in range(1, MAX_OLD + 3):
        item = {**channel.item, **changes(channel, {"slug": f"s{number}"}, SECRETS, 0, float(number))}
        channel = Channel(item)
    assert list(channel.old_slugs) == [f"s{number}" for number in range(2, MAX_OLD + 2)]
    back = changes(channel, {"slug": "s5", OLD_SLUGS: {"other": 1}}, SECRETS, 0, 99.0)
    assert "s5" not in back[OLD_SLUGS] and "other" not in back[OLD_SLUGS] and len(back[OLD_SLUGS]) == MAX_OLD


def test_a_changed_slug_is_checked_and_an_unchanged_one_of_another_program_is_not():
    stored = Channel({"id": A, "slug": "Ärger"})
    assert stored.slug == "" and stored.public_name == A
    assert changes(stored, {"slug": "Ärger", "videoname": "x"}, SECRETS, 0) == {"videoname": "x"}
    with pytest.raises(InvalidField):
        changes(stored, {"slug": "Ärger 2"}, SECRETS, 0)


def test_current_slugs_win_over_earlier_ones_and_later_ones_over_older_ones():
    table = name_table(
        [
            Channel({"id": B, "slug": "hall", OLD_SLUGS: {"stage": 7, "yard": 9}}),
            Channel({"id": A, "slug": "stage", OLD_SLUGS: {"yard": 8, "hall": 6}}),
            Channel({"id": "lobby"}),
        ]
    )
    assert table == {
        "stage": NamedChannel(A, "stage"),
        "hall": NamedChannel(B, "hall"),
        "yard": NamedChannel(B, "hall"),
        "lobby": NamedChannel("lobby", "lobby"),
    }
