"""The JPEG worker makes pictures of all color properties."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gateway.workers.programs.codec import DecodedPicture
from gateway.workers.programs.jpeg_worker import encode_jpeg
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
