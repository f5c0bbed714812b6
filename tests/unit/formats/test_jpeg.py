"""The scans of a JPEG are counted before it is decoded."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gateway.formats.jpeg import count_scans
from gateway.workers.programs.watermark.overlay_image import MAX_SCANS, PictureUnusable, read_picture


def jpeg(width: int, height: int, **how: object) -> bytes:
    """A picture of noise. That of large ones is repeated, because each pixel of it costs more than its encoding."""
    file, noise = io.BytesIO(), Image.effect_noise((min(width, 500), min(height, 500)), 60)
    picture = Image.new("L", (width, height))
    for left in range(0, width, noise.width):
        for top in range(0, height, noise.height):
            picture.paste(noise, (left, top))
    picture.convert("RGB").save(file, "JPEG", **how)
    return file.getvalue()


def with_scans(data: bytes, more: int) -> bytes:
    """The same progressive JPEG with its last scan repeated `more` times."""
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * more + data[-2:]


def test_a_baseline_jpeg_has_one_scan_and_a_progressive_one_about_ten() -> None:
    assert count_scans(jpeg(64, 64), 100) == 1
    assert 6 <= count_scans(jpeg(64, 64, progressive=True), 100) <= 12


def test_scans_of_an_embedded_preview_do_not_count() -> None:
    assert count_scans(jpeg(64, 64, exif=b"Exif\0\0" + jpeg(16, 16, progressive=True)), 100) == 1


def test_counting_stops_at_the_limit() -> None:
    data = with_scans(jpeg(16, 16, progressive=True), 5000)
    assert count_scans(data, 50) == 51 and count_scans(data, 1_000_000) > 5000


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"\xff\xda", b"\xff\xda\0", b"\xff" * 1000, b"no JPEG"])
def test_data_that_is_not_jpeg_has_at_most_one_scan(data: bytes) -> None:
    assert count_scans(data, 10) <= 1


def test_scans_are_counted_in_files_truncated_at_any_place() -> None:
    data = with_scans(jpeg(16, 16, progressive=True), 3)
    counts = [count_scans(data[:end], 100) for end in range(len(data) + 1)]
    assert counts == sorted(counts) and counts[-1] == count_scans(data + b"\xff\xda" * 50, 100)


def test_a_jpeg_with_thousands_of_scans_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    data = with_scans(jpeg(1000, 1000, progressive=True, quality=5), 3000)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", decoded)
    with pytest.raises(PictureUnusable, match=f"a JPEG of more than {MAX_SCANS} scans would take too long"):
        read_picture(data)


def test_scans_are_counted_in_a_file_with_several_pictures() -> None:
    """Pillow reports such a file as MPO and not as JPEG."""
    data = with_scans(jpeg(1000, 1000, progressive=True, quality=5), 3000)
    file, small = io.BytesIO(), Image.new("RGB", (8, 8))
    small.save(file, "MPO", save_all=True, append_images=[small])
    index = file.getvalue()[file.getvalue().index(b"\xff\xe2") :]
    index = index[: 2 + int.from_bytes(index[2:4], "big")]
    several = data[:2] + index + data[2:]
    with Image.open(io.BytesIO(several)) as picture:
        assert picture.format == "MPO"
    with pytest.raises(PictureUnusable, match="would take too long"):
        read_picture(several)


def test_the_limit_of_scans_depends_on_the_picture_size() -> None:
    large = with_scans(jpeg(4000, 4000, progressive=True, quality=5), 40)
    with pytest.raises(PictureUnusable, match=r"a JPEG of [0-9]+ scans of 16000000 pixels would take too long"):
        read_picture(large)
    assert read_picture(with_scans(jpeg(64, 64, progressive=True), 40)).size == (64, 64)


def test_a_progressive_photograph_is_accepted() -> None:
    assert read_picture(jpeg(4000, 3000, progressive=True, quality=30), (400, 300)).size >= (400, 300)
