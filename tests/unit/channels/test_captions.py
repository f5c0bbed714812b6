"""The captions of a channel: what is accepted, and what an invalid list means."""

from typing import Any

import pytest

from gateway.channels import fields
from gateway.channels.captions import parse_captions
from gateway.channels.channel import Channel
from gateway.media.caption_track import CaptionTrack
from gateway.ports.errors import InvalidField
from tests.support import builders


def test_a_track_has_a_name_for_players() -> None:
    value = [
        {"source": "cc1", "language": "en", "label": "English", "default": True},
        {"source": "service2", "language": "pt-BR"},
        {"source": "cc3"},
        {"source": "speech", "language": "en"},
        {"source": "text"},
    ]
    assert parse_captions(value) == (
        CaptionTrack("CC1", "English", "en", True),
        CaptionTrack("SERVICE2", "pt-BR", "pt-BR"),
        CaptionTrack("CC3", "CC3"),
        CaptionTrack("SPEECH", "en", "en"),
        CaptionTrack("TEXT", "TEXT"),
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("cc1", "a list"),
        ([{"source": "cc1"}] * 9, "at most 8"),
        (["cc1"], "such as"),
        ([{"source": "cc5"}], "cc1 to cc4"),
        ([{"source": "service64"}], "service63, text or speech"),
        ([{"source": ["cc1"]}], "cc1 to cc4"),
        ([{"source": "cc1", "language": "e"}], "a tag"),
        ([{"source": "cc1", "label": 'a"b'}], "quotation marks"),
        ([{"source": "cc1", "label": "a\nb"}], "quotation marks"),
        ([{"source": "cc1", "label": "x" * 65}], "64 characters"),
        ([{"source": "cc1", "default": "yes"}], "true or false"),
        ([{"source": "cc1"}, {"source": "cc1"}], "once"),
        ([{"source": "cc1", "default": True}, {"source": "cc2", "default": True}], "one default"),
    ],
)
def test_an_invalid_list_is_refused_with_what_is_expected(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_captions(value)


def test_captions_from_outside_the_pictures_are_no_closed_captions() -> None:
    stream = builders.stream()
    stream.channel = builders.channel(captions=[{"source": "speech"}, {"source": "cc1"}, {"source": "text"}])
    assert stream.captions.closed == (CaptionTrack("CC1", "CC1"),)
    assert [track.id for track in stream.captions.texts] == ["speech", "cc1", "text"]


def test_a_stored_list_that_is_invalid_means_what_is_found() -> None:
    assert Channel({"id": "c1", "captions": [{"source": "x"}]}).captions == ()
    assert Channel({"id": "c1"}).captions == ()


@pytest.mark.parametrize("language", ["", "en", "pt-BR"])
def test_the_language_of_speech_is_a_tag(language: str) -> None:
    assert Channel({"id": "c1", "captionLanguage": language}).text("captionLanguage") == language


def test_another_language_of_speech_is_refused() -> None:
    with pytest.raises(InvalidField, match="a language tag such as en or pt-BR"):
        fields.check("captionLanguage", "english please")
