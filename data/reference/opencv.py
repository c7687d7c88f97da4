"""Makes the reference values of resize_tests.rs, hsv_tests.rs and affine.rs.

Made with opencv-python-headless 4.14.0: pip install opencv-python-headless numpy; python opencv.py
"""

import cv2
import numpy as np


def pattern(width, height):
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    return ((x * 37 + y * 91 + channel * 53 + x * y * 7) % 256).astype(np.uint8)


print("opencv", cv2.__version__)
for width, height, new_width, new_height in [(7, 5, 4, 3), (5, 4, 9, 7), (8, 6, 4, 3)]:
    resized = cv2.resize(pattern(width, height), (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    print("resize", (width, height, new_width, new_height), resized[:, :, 0].ravel().tolist())

matrix = np.array([[0.8, 0.3, -2.5], [-0.25, 0.9, 3.25]])
warped = cv2.warpAffine(pattern(12, 12), matrix, dsize=(10, 10), flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114))
print("warp", warped[:, :, 0].ravel().tolist())

colours = [
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 200, 30), (200, 190, 15), (12, 13, 14),
    (90, 90, 90), (0, 0, 0), (255, 255, 255), (130, 20, 240), (1, 0, 2), (77, 160, 159),
]
hue, saturation, value = cv2.split(cv2.cvtColor(np.array([colours], np.uint8), cv2.COLOR_RGB2HSV))
levels = np.arange(256, dtype=np.float64)
for gains in [(0.013, 0.4, -0.2), (-0.01, -0.6, 0.35), (0.0, 0.0, 0.0)]:
    tables = [
        ((levels + gains[0] * 180) % 180).astype(np.uint8),
        np.clip(levels * (1 + gains[1]), 0, 255).astype(np.uint8),
        np.clip(levels * (1 + gains[2]), 0, 255).astype(np.uint8),
    ]
    shifted = cv2.merge([cv2.LUT(channel, table) for channel, table in zip((hue, saturation, value), tables)])
    print("hsv", gains, cv2.cvtColor(shifted, cv2.COLOR_HSV2RGB)[0].tolist())
