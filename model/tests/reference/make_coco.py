"""Makes coco.json beside this file: figures of pycocotools' evaluation of drawn detections.

Set up as for `make.py`, with pycocotools. Run with the folder of the photos, of which only annotations are read:

    /tmp/reference/bin/python make_coco.py "$RINGMASTER_TEST_DATA"

The drawn case needs nothing but `noise`; the others take the objects of tinycoco, and store only figures.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
from make import noise, random_boxes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HERE = Path(__file__).parent


def drawn_annotations():
    """Twelve images with 0 to 9 objects of 4 classes; every fifth is a crowd."""
    images, annotations = [], []
    for image in range(12):
        images.append({"id": image, "width": 640, "height": 480})
        for i, box in enumerate(random_boxes(600 + image, image * 7 % 10, 640, 480)):
            left, top, right, bottom = map(float, box)
            annotations.append({
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": (i * 3 + image) % 4,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": int(i % 5 == 4),
            })
    return {"images": images, "annotations": annotations, "categories": [{"id": c, "name": str(c)} for c in range(4)]}


def detections(truth):
    """For each image, in the order of ids: a moved copy of each object, three in each crowd, and as many strays."""
    categories = sorted(category["id"] for category in truth["categories"])
    found = []
    for index, image in enumerate(sorted(truth["images"], key=lambda image: image["id"])):
        objects = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        objects.sort(key=lambda a: a["id"])
        boxes, labels = [], []
        for annotation in objects:
            left, top, width, height = annotation["bbox"]
            for copy in range(3 if annotation["iscrowd"] else 1):
                shrink = 4 if annotation["iscrowd"] else 1
                step = copy * width / 4
                boxes.append([left + step, top, left + step + width / shrink, top + height / shrink])
                labels.append(annotation["category_id"])
        strays = random_boxes(700 + index, len(objects), 640, 480)
        boxes = np.floor(np.float64(boxes).reshape(-1, 4) * 4) / 4
        shift = np.floor(noise(800 + index, boxes.size).reshape(-1, 4) * 32) / 4
        boxes = boxes + shift
        labels += [categories[i * 7 % len(categories)] for i in range(len(strays))]
        boxes = np.concatenate([boxes, strays.astype(np.float64)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = np.floor((noise(900 + index, len(boxes)) + np.float32(0.5)) * 64) / 64
        for (left, top, right, bottom), score, label in zip(boxes.tolist(), scores.tolist(), labels):
            found.append({
                "image_id": image["id"],
                "category_id": label,
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
            })
    return found


def case(name, truth):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections(truth)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    per_class = [
        [index, float(precision[:, :, index].mean())]
        for index in range(precision.shape[2])
        if precision[0, 0, index] > -1
    ]
    ap, ap50, ap75 = map(float, evaluation.stats[:3])
    return {"name": name, "ap": ap, "ap50": ap50, "ap75": ap75, "per_class": per_class}


if __name__ == "__main__":
    folder = Path(sys.argv[1]) / "tinycoco" / "annotations"
    cases = [case("drawn", drawn_annotations())]
    for split in ["train", "val"]:
        cases.append(case(split, json.loads((folder / f"instances_{split}2017.json").read_text())))
    (HERE / "coco.json").write_text(json.dumps(cases, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print([(c["name"], c["ap"], c["ap50"], len(c["per_class"])) for c in cases])
