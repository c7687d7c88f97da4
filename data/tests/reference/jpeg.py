"""Writes small JPEG files and, as PNG, the pixels that OpenCV decodes from them.

    pip install opencv-python-headless numpy pillow
    python data/tests/reference/jpeg.py

No side is a multiple of a block, and the colours change from pixel to pixel, so that rounding, the upsampling of
chroma and the edges all show.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "jpeg"
KINDS = {
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "420": {"subsampling": 2},
    "progressive": {"subsampling": 2, "progressive": True},
    "coarse": {"subsampling": 2, "quality": 25},
}


def picture(width, height):
    """Waves of several lengths with some noise, `[height, width, 3]`."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 3.0 + y / 7.0), np.sin(x / 11.0 - y / 2.5), np.cos(x * y / 150.0)]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    return np.clip(128 + 110 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def main():
    FOLDER.mkdir(exist_ok=True)
    colour = Image.fromarray(picture(61, 45))
    for name, options in KINDS.items():
        colour.save(FOLDER / f"{name}.jpg", **{"quality": 85, **options})
    colour.convert("L").save(FOLDER / "grey.jpg", quality=85)
    for path in sorted(FOLDER.glob("*.jpg")):
        cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)))


if __name__ == "__main__":
    main()
