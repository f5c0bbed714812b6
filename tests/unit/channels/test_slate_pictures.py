"""The picture of a slate is an image or a film. Text files are refused with their field."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.inputs import InputKind, InputSpec
from gateway.channels.slate_pictures import check_pictures
from gateway.ports.errors import InvalidField


def slate(picture: str) -> list[InputSpec]:
    return [InputSpec("slate", InputKind.SLATE, picture=picture)]


@pytest.mark.parametrize(
    "text",
    [
        b"Back soon\r\n",
        b"#EXTM3U\n#EXTINF:1,\na.ts\n",
        b"<svg/>",
        "\ufeffB\u00e4ume".encode(),
        b"a" * 511 + b"\xc3\xa4",
        b"",
    ],
)
@pytest.mark.parametrize("key", ["up/load.png", "film.mp4", "notes"])
async def test_a_text_file_as_slate_picture_is_refused(text: bytes, key: str, tmp_path: Path) -> None:
    (tmp_path / key).parent.mkdir(exist_ok=True)
    (tmp_path / key).write_bytes(text)
    with pytest.raises(InvalidField) as refused:
        await check_pictures(LocalObjects(tmp_path), slate(key))
    assert refused.value.field == "picture" and "text" in refused.value.message


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\0\0\0\x18ftypisom", b"GIF89a\x01\0\x01\0"]
)
async def test_binary_files_are_accepted_for_a_check_by_the_worker(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    await check_pictures(LocalObjects(tmp_path), slate("a"))


@pytest.mark.parametrize("words", ["Back soon", "hello", "notes.txt"])
async def test_text_that_is_not_a_picture_key_is_refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidField):
        await check_pictures(LocalObjects(tmp_path), slate(words))


@pytest.mark.parametrize("picture", ["", "later.PNG", "later.mp4", "http://example.com/notes"])
async def test_urls_and_keys_of_files_not_yet_uploaded_are_accepted(picture: str, tmp_path: Path) -> None:
    await check_pictures(LocalObjects(tmp_path), slate(picture))


async def test_an_unchanged_stored_picture_is_not_checked_again(tmp_path: Path) -> None:
    await check_pictures(LocalObjects(tmp_path), slate("old words"), slate("old words"))
