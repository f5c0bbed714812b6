"""The overlay is drawn on pictures of all color properties."""

from __future__ import annotations

import pytest
from PIL import Image

from gateway.workers.programs.watermark.overlay_blender import OverlayBlender
from gateway.workers.programs.watermark.overlay_image import Overlay
from tests.unit.workers.test_filters import still


@pytest.mark.parametrize("matrix", range(18))
@pytest.mark.parametrize(("form", "luma"), [("yuv420p", 81), ("yuv420p10le", 82), ("yuvj420p", 76)])
def test_pictures_of_every_matrix_get_the_overlay_and_keep_their_values(form: str, luma: int, matrix: int) -> None:
    frame = still("color=red:size=64x36", form)
    frame.colorspace = matrix
    blender = OverlayBlender()
    blender.set_overlay(Overlay(4, 4, Image.new("RGBA", (8, 8), "white"), []))
    blended = blender.apply(frame)
    plane, white = blended.planes[0], 255 if form == "yuvj420p" else 235
    assert bytes(plane)[0] == luma
    assert bytes(plane)[6 * plane.line_size + 6] == pytest.approx(white, abs=1)
