"""Makes the reference values beside this file, from Ultralytics 8.4.190 with torch 2.9.0 on the CPU.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install ultralytics==8.4.190 torch==2.9.0 torchvision
    /tmp/reference/bin/python make.py

Inputs are not stored: both sides draw them from `noise`, which gives the same bits everywhere. Coordinates are multiples of
a quarter pixel and the sides of the loss's images powers of two, so that conversions between box formats are exact.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torchvision  # noqa: F401  its suppression is used when it is imported
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.metrics import ap_per_class, box_iou
from ultralytics.utils.nms import non_max_suppression

HERE = Path(__file__).parent
STRIDES = [8, 16, 32]
BINS = 16


def noise(seed, length):
    """Numbers in [-0.5, 0.5): the high bits of SplitMix64's mixer over (seed, index)."""
    with np.errstate(over="ignore"):
        bits = (np.uint64(seed << 32) | np.arange(length, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ bits >> np.uint64(31)
    return ((bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)) - np.float32(0.5)


def random_boxes(seed, count, width, height):
    """Boxes [left, top, right, bottom] in quarter pixels, from 2 pixels to half of the image."""
    draws = noise(seed, count * 4).reshape(count, 4) + np.float32(0.5)
    sides = np.float32([width, height])
    extent = np.floor(draws[:, 2:] ** 2 * (sides / 2 - 2) * 4) / 4 + 2
    low = np.floor(draws[:, :2] * (sides - extent) * 4) / 4
    return np.concatenate([low, low + extent], 1).astype(np.float32)


def loss_case(name, width, height, classes, truths, flat=False, peak=(2, 3.0)):
    """Runs the reference loss. `truths`: per image a list of (class, xyxy); `peak`: a bin, and what its logits gain."""
    shapes = [(height // s, width // s) for s in STRIDES]
    anchors = sum(h * w for h, w in shapes)
    images = len(truths)
    distances = noise(11, images * anchors * 4 * BINS).reshape(images, anchors, 4, BINS) * np.float32(2)
    scores = noise(12, images * anchors * classes).reshape(images, anchors, classes) * np.float32(4) - np.float32(2)
    if flat:
        distances, scores = distances * np.float32(0), scores * np.float32(0)
    distances[..., peak[0]] += np.float32(peak[1])
    distances = torch.from_numpy(distances.reshape(images, anchors, 4 * BINS)).requires_grad_()
    scores = torch.from_numpy(scores.copy()).requires_grad_()
    head = SimpleNamespace(stride=torch.tensor(STRIDES, dtype=torch.float32), nc=classes, reg_max=BINS)
    model = SimpleNamespace(
        model=[head],
        args=SimpleNamespace(box=7.5, cls=0.5, dfl=1.5),
        parameters=lambda: iter([distances]),
    )
    criterion = v8DetectionLoss(model)
    captured = {}
    assigner = criterion.assigner.forward

    def capture(*args, **kwargs):
        captured["assigned"] = assigner(*args, **kwargs)
        return captured["assigned"]

    criterion.assigner.forward = capture
    rows = [(i, c, *box) for i, boxes in enumerate(truths) for c, box in boxes]
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    low, high = rows[:, 2:4], rows[:, 4:6]
    sides = torch.tensor([width, height], dtype=torch.float32)
    batch = {
        "batch_idx": rows[:, 0],
        "cls": rows[:, 1:2],
        "bboxes": torch.cat([(low + high) / 2 / sides, (high - low) / sides], 1),
    }
    predictions = {
        "boxes": distances.permute(0, 2, 1),
        "scores": scores.permute(0, 2, 1),
        "feats": [torch.zeros(images, 1, h, w) for h, w in shapes],
    }
    loss, _ = criterion(predictions, batch)
    loss.sum().backward()
    _, _, target_scores, foreground, truth_index = captured["assigned"]
    normaliser = target_scores.sum().item()
    scale = max(normaliser, 1.0) / images
    positives = [
        [i, a, int(truth_index[i, a]), float(target_scores[i, a].sum())]
        for i, a in foreground.nonzero().tolist()
    ]

    def gradient(tensor):
        values = (tensor.grad if tensor.grad is not None else torch.zeros_like(tensor)).flatten() * scale
        largest = values.abs().argsort(descending=True)[:8].tolist()
        sampled = largest + list(range(0, values.numel(), max(1, values.numel() // 40)))
        return {"norm": values.double().norm().item(), "samples": [[i, values[i].item()] for i in sampled]}

    return {
        "name": name,
        "size": [width, height],
        "classes": classes,
        "flat": flat,
        "peak": peak,
        "truths": [[[c, *map(float, box)] for c, box in boxes] for boxes in truths],
        "sums": [value * scale for value in loss.tolist()],
        "normaliser": normaliser,
        "positives": positives,
        "distance_gradient": gradient(distances),
        "score_gradient": gradient(scores),
    }


def losses():
    few = [
        [(0, (3.0, 5.0, 30.0, 41.0)), (2, (20.0, 11.0, 61.0, 58.0)), (2, (50.0, 2.0, 54.0, 7.0))],
        [],
        [(1, (0.0, 0.0, 64.0, 64.0))],
    ]
    many = [
        [(i % 5, box.tolist()) for i, box in enumerate(random_boxes(20 + image, count, 128, 64))]
        for image, count in enumerate([40, 7, 25])
    ]
    twins = [[(0, (8.0, 8.0, 56.0, 56.0)), (0, (8.0, 8.0, 56.0, 56.0)), (1, (8.0, 8.0, 56.0, 56.0))]]
    tiny = [[(i % 2, (x, 26.5, x + 1 + i / 4, 29.5)) for i, x in enumerate([3.0, 12.0, 28.0, 29.0, 60.0])]]
    return [
        loss_case("few objects", 64, 64, 3, few),
        loss_case("many objects, wide images", 128, 64, 5, many),
        loss_case("no objects", 64, 64, 3, [[], []]),
        loss_case("twin objects and flat logits", 64, 64, 2, twins, flat=True),
        loss_case("tiny objects", 64, 64, 2, tiny, peak=(0, 6.5)),
    ]


def nms_case(name, anchors, count, sharpness, **settings):
    boxes = random_boxes(30, anchors, 640, 480)
    # Neighbours: three of four boxes are copies of the one before, moved by up to 8 pixels.
    shift = np.floor(noise(31, anchors * 4).reshape(anchors, 4) * 64) / 4
    for i in range(anchors):
        if i % 4:
            boxes[i] = boxes[i - i % 4] + shift[i].astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = (noise(32, anchors * count).reshape(anchors, count) + np.float32(0.5)).astype(np.float32)
    for _ in range(sharpness):
        scores = scores * scores
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    prediction = np.concatenate([centre, boxes[:, 2:] - boxes[:, :2], scores], 1).T[None]
    found, kept = non_max_suppression(torch.from_numpy(prediction.copy()), return_idxs=True, **settings)
    rows = zip(kept[0].flatten().tolist(), found[0][:, 5].tolist())
    settings["classes"] = settings.get("classes")
    return {
        "name": name,
        "anchors": anchors,
        "classes": count,
        "sharpness": sharpness,
        "settings": settings,
        "kept": [[anchor, int(label)] for anchor, label in rows],
    }


def suppressions():
    measuring = {"conf_thres": 0.001, "iou_thres": 0.7, "max_det": 300, "max_nms": 30000}
    return [
        nms_case("measuring", 2000, 20, 3, multi_label=True, agnostic=False, **measuring),
        nms_case("more candidates than looked at", 1500, 80, 1, multi_label=True, agnostic=False, **measuring),
        nms_case("looking", 1000, 5, 1, multi_label=False, agnostic=False, conf_thres=0.25, iou_thres=0.45,
                 max_det=300, max_nms=30000),
        nms_case("across classes", 1000, 5, 1, multi_label=False, agnostic=True, conf_thres=0.25, iou_thres=0.7,
                 max_det=50, max_nms=30000),
        nms_case("two classes", 1000, 5, 1, multi_label=True, agnostic=False, classes=[1, 3], conf_thres=0.25,
                 iou_thres=0.7, max_det=300, max_nms=30000),
    ]


def metric_case(name, images, classes, truths_of, detections_of):
    """`truths_of`, `detections_of`: counts per image. Every second detection is a moved truth."""
    judge = SimpleNamespace(iouv=torch.linspace(0.5, 0.95, 10))
    tps, confidences, labels, true_labels = [], [], [], []
    for image in range(images):
        count, found = truths_of(image), detections_of(image)
        truths = random_boxes(100 + image, count, 320, 320)
        true_classes = np.arange(count) * 7 % classes
        boxes = random_boxes(200 + image, found, 320, 320)
        shift = np.floor(noise(300 + image, found * 4).reshape(found, 4) * 40) / 4
        predicted = (np.arange(found) * 5 + image) % classes
        for i in range(0, found, 2):
            if count:
                boxes[i] = truths[i // 2 % count] + shift[i].astype(np.float32)
                predicted[i] = true_classes[i // 2 % count]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = np.sort(noise(400 + image, found) + np.float32(0.5))[::-1].copy()
        tp = np.zeros((found, 10), dtype=bool)
        if count and found:
            iou = box_iou(torch.from_numpy(truths), torch.from_numpy(boxes))
            tp = BaseValidator.match_predictions(
                judge, torch.from_numpy(predicted), torch.from_numpy(true_classes), iou
            ).numpy()
        tps.append(tp)
        confidences.append(scores)
        labels.append(predicted)
        true_labels.append(true_classes)
    tp = np.concatenate(tps)
    _, _, p, r, _, ap, present, *_ = ap_per_class(
        tp, np.concatenate(confidences), np.concatenate(labels), np.concatenate(true_labels)
    )
    return {
        "name": name,
        "images": [[truths_of(i), detections_of(i)] for i in range(images)],
        "classes": classes,
        "correct": [int(sum(1 << j for j in range(10) if row[j])) for row in tp],
        "precision": float(p.mean()),
        "recall": float(r.mean()),
        "map50": float(ap[:, 0].mean()),
        "map50_95": float(ap.mean()),
        "per_class": [
            [int(c), float(p[i]), float(r[i]), float(ap[i, 0]), float(ap[i].mean())] for i, c in enumerate(present)
        ],
    }


def metrics():
    return [
        metric_case("forty images", 40, 5, lambda i: i * 3 % 11, lambda i: i * 7 % 29),
        metric_case("crowded", 4, 2, lambda i: 60, lambda i: 200),
        metric_case("rare classes", 6, 20, lambda i: 2 + i % 2, lambda i: 9),
    ]


if __name__ == "__main__":
    for name, cases in [("loss", losses()), ("nms", suppressions()), ("metric", metrics())]:
        text = json.dumps(cases, separators=(",", ":"))
        (HERE / f"{name}.json").write_text(text.replace("},{", "},\n{") + "\n")
        print(name, len(text), "bytes")
