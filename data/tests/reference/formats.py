"""Writes small WebP, BMP and TIFF files and, as PNG, the pixels that OpenCV decodes from them.

    pip install opencv-python-headless numpy pillow
    python data/tests/reference/formats.py
"""

from pathlib import Path

import cv2
from jpeg import picture
from PIL import Image

FOLDER = Path(__file__).parent / "formats"
PREDICTOR = 317  # a tag: rows hold differences
KINDS = {
    "lossy.webp": {"quality": 80},
    "lossless.webp": {"lossless": True},
    "plain.bmp": {},
    "plain.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "predicted.tif": {"compression": "tiff_lzw", "tiffinfo": {PREDICTOR: 2}},
    "deflate.tif": {"compression": "tiff_adobe_deflate"},
    "packbits.tif": {"compression": "packbits"},
}


def main():
    FOLDER.mkdir(exist_ok=True)
    colour = Image.fromarray(picture(61, 45))
    for name, options in KINDS.items():
        colour.save(FOLDER / name, **options)
    seen_through = colour.copy()
    seen_through.putalpha(colour.convert("L"))
    seen_through.save(FOLDER / "alpha.webp", quality=80)
    colour.convert("L").save(FOLDER / "grey.tif")
    colour.quantize(200).save(FOLDER / "palette.bmp")
    for path in sorted(FOLDER.iterdir()):
        if path.suffix != ".png":
            cv2.imwrite(f"{path}.png", cv2.imread(str(path)))


if __name__ == "__main__":
    main()
