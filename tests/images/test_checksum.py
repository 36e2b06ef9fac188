"""What tells the pixels of images apart."""

from __future__ import annotations

import numpy as np

from pacl.images import pixel_checksum


def test_images_of_one_colour_and_other_proportions_differ() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    assert pixel_checksum(wide) == pixel_checksum(wide.copy())
    assert pixel_checksum(wide) == pixel_checksum(np.zeros((4, 16, 3), np.uint8)[:, ::2])
    assert pixel_checksum(wide) != pixel_checksum(wide + np.uint8(1))
    assert pixel_checksum(wide) != pixel_checksum(wide.reshape(8, 4, 3))
