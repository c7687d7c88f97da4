"""Makes augment.json: what Ultralytics 8.4.190 does with given random draws, for the tests of src/augment.

Its transforms are called as they are; only the random functions are replaced by lists of numbers.
pip install ultralytics==8.4.190 torch==2.9.0 opencv-python-headless numpy; python augment.py
"""

import json
import random
from pathlib import Path

import numpy as np
import ultralytics
from ultralytics.data import augment
from ultralytics.utils.instance import Instances


def pattern(width, height, step=1):
    """The picture that the tests draw, too; it changes slowly, so that rounding of positions hardly shows."""
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    return ((x * 2 * step + y * 3 * step + channel * 53) % 256).astype(np.uint8)


def labels(image, boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return {
        "img": image.copy(),
        "cls": np.arange(len(boxes), dtype=np.float32).reshape(-1, 1),
        "instances": Instances(boxes.copy(), np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False),
        "resized_shape": image.shape[:2],
        "ori_shape": image.shape[:2],
        "im_file": "",
    }


class Pictures:
    """A data set of one picture, the other one of a mix."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 1

    def get_image_and_label(self, _index):
        return self.item


class Draws:
    """Replaces random functions by lists of values; each must be used up."""

    def __init__(self, **lists):
        self.lists = {name: list(values) for name, values in lists.items()}

    def __enter__(self):
        self.saved = random.uniform, np.random.beta, np.random.randint, np.random.choice
        take = lambda name: lambda *_args, **_kwargs: self.lists[name].pop(0)
        random.uniform, np.random.beta = take("uniform"), take("beta")
        np.random.randint, np.random.choice = take("randint"), take("choice")
        return self

    def __exit__(self, *_):
        random.uniform, np.random.beta, np.random.randint, np.random.choice = self.saved
        if not any(_):
            assert not any(self.lists.values()), self.lists


def outcome(result):
    instances = result["instances"]
    instances.convert_bbox("xyxy")
    classes = result["cls"].ravel().astype(int).tolist()
    return [{"class": c, "xyxy": [float(v) for v in box]} for c, box in zip(classes, instances.bboxes)]


def perspective(generator):
    cases = []
    for index in range(12):
        mosaic = index % 3 != 2
        side = 48
        canvas = (96, 96) if mosaic else (48, 48)
        scale = [1.0, 0.6, 1.4, 0.25][index % 4]
        draws = {
            "perspective": generator.uniform(-0.004, 0.004, 2).tolist() if index >= 6 else [0.0, 0.0],
            "degrees": float(generator.uniform(-25, 25)) if index else 0.0,
            "scale": scale,
            "shear": generator.uniform(-12, 12, 2).tolist() if index else [0.0, 0.0],
            "shift": generator.uniform(0.4, 0.6, 2).tolist() if index else [0.5, 0.5],
        }
        corners = generator.uniform(-5, canvas[0] + 5, (24, 2))
        sizes = np.exp(generator.uniform(np.log(0.5), np.log(60), (24, 2)))
        boxes = np.concatenate([corners, corners + sizes], 1).clip(0, canvas[0]).astype(np.float32)
        boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
        transform = augment.RandomPerspective(perspective=max(map(abs, draws["perspective"])), size=(side, side))
        item = labels(pattern(*canvas), boxes)
        # In the order of the random calls.
        order = [*draws["perspective"], draws["degrees"], draws["scale"], *draws["shear"], *draws["shift"]]
        with Draws(uniform=order, beta=[], randint=[], choice=[]):
            result = transform(item)
        cases.append({
            "draws": draws, "canvas": canvas, "side": side, "boxes": boxes.tolist(), "kept": outcome(result),
            "pixels": result["img"][::4, ::4, 1].ravel().tolist(),
        })
    return cases


def mixup():
    first, second = pattern(6, 6, 7), pattern(6, 6, 11)
    cases = []
    for ratio in [0.5, 0.4375, 0.6180339887]:
        item, other = labels(first, [[0, 0, 3, 3]]), labels(second, [[1, 1, 4, 4]])
        transform = augment.MixUp(dataset=Pictures(other), p=1.0)
        with Draws(uniform=[0.0], beta=[ratio], randint=[], choice=[]):
            result = transform(item)
        cases.append({"ratio": ratio, "pixels": result["img"].ravel().tolist(), "boxes": len(result["cls"])})
    return cases


def cutmix(generator):
    cases = []
    for index in range(16):
        side = 64
        def boxes(count, smallest=8):
            corners = generator.uniform(0, side - 10, (count, 2))
            return np.concatenate([corners, np.minimum(corners + generator.uniform(smallest, 30, (count, 2)), side)], 1)
        ours, others = boxes(index % 3 + 1), boxes(5)
        betas = generator.uniform(0.3, 1.0, 3).tolist()
        centres = generator.integers(0, side, 6).tolist()
        pick = int(generator.integers(0, 3))
        chosen = {}
        def choose(free):
            chosen["free"] = [int(i) for i in free]
            return free[pick % len(free)]
        first, second = pattern(side, side, 3), pattern(side, side, 5)
        item, other = labels(first, ours), labels(second, others)
        other["cls"] += 10
        transform = augment.CutMix(dataset=Pictures(other), p=1.0)
        with Draws(uniform=[0.0], beta=betas, randint=centres, choice=[]):
            np.random.choice = choose
            result = transform(item)
        cases.append({
            "side": side, "lambdas": betas, "centres": centres, "pick": pick, "free": chosen.get("free", []),
            "boxes": np.asarray(ours, np.float32).tolist(), "others": np.asarray(others, np.float32).tolist(),
            "kept": outcome(result), "changed": int((result["img"] != first).any(axis=2).sum()),
            "sum": int(result["img"].astype(np.int64).sum()),
        })
    return cases


def main():
    generator = np.random.default_rng(0)
    fixture = {
        "ultralytics": ultralytics.__version__,
        "perspective": perspective(generator),
        "mixup": mixup(),
        "cutmix": cutmix(generator),
    }
    Path(__file__).with_name("augment.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    for name in ["perspective", "cutmix"]:
        print(name, [(len(case["boxes"]), len(case["kept"])) for case in fixture[name]])


if __name__ == "__main__":
    main()
