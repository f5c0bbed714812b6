"""Films as stores keep them, and the names of the files of their captions."""

import json

import pytest

from gateway.adapters.aws.attributes import from_item, to_item
from gateway.ports.films import Film, FilmCaptions, merged_captions
from gateway.ports.vod_names import MAX_LANGUAGE, names_in

CAPTIONS = (FilmCaptions("en", "English"), FilmCaptions("zh-Hant", "繁體中文", uploaded=True))


def test_captions_survive_both_stores() -> None:
    film = Film("a", "A", 1.5, captions=CAPTIONS)
    assert Film.of_item(json.loads(json.dumps(film.as_item()))) == film
    assert Film.of_item(from_item(to_item(film.as_item()))) == film


def test_a_film_of_an_older_program_has_no_captions() -> None:
    item = Film("a", "A", 1.5).as_item()
    del item["captions"]
    assert Film.of_item(item).captions == ()


def test_new_captions_replace_those_of_their_language() -> None:
    new = FilmCaptions("EN", "New", uploaded=True)
    assert merged_captions(CAPTIONS, [new]) == (CAPTIONS[1], new)


@pytest.mark.parametrize("folder", ["films/holiday", "a b", "cc_en"])
def test_files_of_captions_belong_to_their_film(folder: str) -> None:
    names = names_in(folder)
    longest = "x" * MAX_LANGUAGE
    for file in (names.captions("pt-BR"), names.captions_playlist("pt-BR"), names.captions(longest)):
        assert names.has(file) and len(file) <= len(names.base) + 25
        assert not names.has(f"x{file}") and not names.has(file.replace("cc_", "cd_"))
    assert names.captions("pt-BR") == names.captions("PT-br")
    assert not names.has(f"{names.base}cc_../x.vtt") and not names.has(f"{names.base}cc_{longest}x.vtt")
