"""The JPEG worker makes pictures of all color properties."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops, ImageStat

from gateway.media.track import Kind
from gateway.workers.programs.codec import DecodedPicture
from gateway.workers.programs.jpeg_worker import decode_last_picture, encode_jpeg
from tests.support.sources import X264, source
from tests.unit.workers.test_filters import still


@pytest.mark.parametrize("matrix", range(18))
@pytest.mark.parametrize("size", ["64x36", "64x720"])
def test_pictures_of_every_matrix_become_jpeg(size: str, matrix: int) -> None:
    """FFmpeg made YUV with BT.601. Players would use BT.709 for high pictures that declare no usable matrix."""
    frame = still(f"color=red:size={size}")
    frame.colorspace = matrix
    with Image.open(io.BytesIO(encode_jpeg(DecodedPicture(frame, 0, True, 0, 0.0), 95))) as image:
        _, green, _ = image.getpixel((30, 20))  # type: ignore[misc]
    is_bt709 = matrix in (1, 7) or (size == "64x720" and matrix not in (4, 5, 6, 9, 10))
    assert green == pytest.approx(23 if is_bt709 else 9 if matrix in (9, 10) else 1, abs=3)


def test_moving_pictures_of_an_interlaced_source_become_jpeg_without_lines() -> None:
    bars = "smptebars=size=320x180:rate=50,scroll=h=0.05,interlace"
    film = source("-f", "lavfi", "-i", bars, "-t", "1", *X264, "-x264-params", "tff=1", "-g", "12")
    assert film.tracks.video is not None
    picture = decode_last_picture(film.tracks.video, film.of(Kind.VIDEO)[:10])
    assert picture.frame.interlaced_frame
    with Image.open(io.BytesIO(encode_jpeg(picture, 95))) as image:
        gray = image.convert("L")
    upper, lower = gray.crop((0, 0, 320, 179)), gray.crop((0, 1, 320, 180))
    assert ImageStat.Stat(ImageChops.difference(upper, lower)).mean[0] < 3, "with both fields it is 20"
