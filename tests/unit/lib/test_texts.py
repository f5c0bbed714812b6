"""Texts with NUL or a lone surrogate: every door refuses them, and what is stored already is shown without them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.channels.channel import Channel, create_item
from gateway.channels.channel_list import ListEntry, search_words
from gateway.channels.site import Site
from gateway.lib.texts import has_unstorable, is_storable, storable
from gateway.ports.errors import InvalidField
from gateway.ports.films import search_form

BAD = ["a\0b", "\ud800", "\udfff\ud800", "x\udc80"]
GOOD = ["", "a", "\U0010ffff", "😀", "\\u0000", "\u202e", "\ufffd"]


@pytest.mark.parametrize("text", BAD)
def test_a_text_that_some_store_cannot_carry_is_found_and_replaced(text: str) -> None:
    assert not is_storable(text) and is_storable(storable(text)) and "\ufffd" in storable(text)
    for value in (text, [text], {"a": {"b": [1, text]}}, {text: 1}):
        assert has_unstorable(value)


@pytest.mark.parametrize("text", GOOD)
def test_all_other_texts_stay_as_they_are(text: str) -> None:
    assert is_storable(text) and storable(text) == text
    assert not has_unstorable({text: [text, 1, None, True, 1.5, {}]})


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("name", ["videoname", "description", "of a client"])
def test_a_new_channel_with_such_a_text_is_refused(text: str, name: str) -> None:
    for value in (text, [text], {text: 1}) if name == "of a client" else (text,):
        with pytest.raises(InvalidField, match="without NUL"):
            create_item({"outdate": "2030-01-01", name: value}, 0, None, 0, "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", BAD)
def test_texts_stored_earlier_leave_names_lists_and_pages_readable(text: str) -> None:
    channel = Channel({"id": "a", "videoname": text, "description": text})
    shown: list[Any] = [channel.name, channel.text("description"), Site.from_json({"title": text, "text": text}).title]
    assert shown == ["", "", ""]
    entry = ListEntry.of(channel)
    for word in (entry.name, entry.search, search_form(text), *search_words(text)):
        assert is_storable(word)
