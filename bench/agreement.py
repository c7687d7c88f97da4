#!/usr/bin/env python3
"""Runs the same weights here and in Ultralytics on the same pictures, and prints how far the results are apart.

    bench/agreement.py --ringmaster PROGRAM --weights FILE.pt [--pictures N]
    bench/agreement.py --ringmaster PROGRAM --weights FILE.safetensors --data data.yaml

A `.pt` file as Ultralytics saves it is measured (`val`) and run (`predict`) by both. Without --data, pictures are drawn with
characters: for weights whose classes are named after single ones. A `.safetensors` file that was trained here is loaded
into Ultralytics' model with `load_state_dict(strict=True)`, measured by both, exported as ONNX and run by onnxruntime.
Needs ultralytics==8.4.190, onnxruntime and Pillow.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

CONF = 0.25
PICTURES = 8


def draw(names, folder, count):
    """Draws pictures with characters at random places, and their boxes; returns the data.yaml."""
    chance = random.Random(0)
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number in range(count):
        width, height = chance.randrange(320, 900), chance.randrange(240, 700)
        paper = tuple(chance.randrange(200, 256) for _ in range(3))
        picture = Image.new("RGB", (width, height), paper)
        pen, lines = ImageDraw.Draw(picture), []
        for row in range(20, height - 110, 120):
            column = 20
            while column < width - 110:
                wanted = chance.randrange(len(names))
                font = ImageFont.load_default(chance.randrange(40, 100))
                left, top, right, bottom = pen.textbbox((column, row), names[wanted], font=font)
                pen.text((column, row), names[wanted], font=font, fill=tuple(chance.randrange(90) for _ in range(3)))
                # Names may repeat: the first class of a name counts.
                first = min(index for index, name in names.items() if name == names[wanted])
                box = ((left + right) / 2 / width, (top + bottom) / 2 / height)
                box += ((right - left) / width, (bottom - top) / height)
                lines.append(f"{first} " + " ".join(f"{value:.6f}" for value in box))
                column = right + chance.randrange(10, 60)
        picture.save(folder / "images" / "val" / f"{number:03}.png")
        (folder / "labels" / "val" / f"{number:03}.txt").write_text("\n".join(lines) + "\n")
    data = folder / "data.yaml"
    listed = "".join(f"  {index}: {json.dumps(name)}\n" for index, name in names.items())
    data.write_text(f"path: {folder}\ntrain: images/val\nval: images/val\nnames:\n{listed}")
    return data


def run(arguments, *command):
    """Runs a command of ours and returns what it prints."""
    ran = subprocess.run([arguments.ringmaster, *map(str, command)], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{command} failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def compare_val(arguments, model, weights, data, scratch):
    imgsz = ["--imgsz", str(arguments.imgsz)]
    ours = json.loads(
        run(arguments, "val", "--weights", weights, "--data", data, *imgsz, "--json", "--no-plots", "--device", "cpu")
    )
    theirs = model.val(
        data=str(data), imgsz=arguments.imgsz, device="cpu", plots=False, verbose=False, workers=0, project=str(scratch)
    ).box
    print("val          ringmaster  Ultralytics  difference")
    for name, our, their in [("mAP50", ours["map50"], theirs.map50), ("mAP50-95", ours["map50_95"], theirs.map)]:
        print(f"{name:12} {our:10.5f}  {their:11.5f}  {abs(our - their):.6f}")


def compare_predict(arguments, model, weights, pictures, scratch):
    run(
        arguments, "predict", "--weights", weights, "--source", pictures, "--imgsz", arguments.imgsz, "--conf", CONF,
        "--save-json", "--device", "cpu", "--project", scratch, "--name", "predict",
    )  # fmt: skip
    (report,) = scratch.glob("predict*/detections.json")
    both = [0, 0]
    far, scores, unmatched = 0.0, 0.0, 0
    for picture in json.loads(report.read_text()):
        result = model.predict(
            str(pictures / picture["image"]), imgsz=arguments.imgsz, conf=CONF, device="cpu", verbose=False
        )[0].boxes
        theirs = list(zip(result.cls.int().tolist(), result.conf.tolist(), result.xyxy.tolist()))
        ours = [(found["class"], found["score"], found["xyxy"]) for found in picture["detections"]]
        both = [both[0] + len(ours), both[1] + len(theirs)]
        for kind, score, box in ours:
            apart = lambda other: max(abs(a - b) for a, b in zip(box, other[2]))
            best = min((other for other in theirs if other[0] == kind), key=apart, default=None)
            if best is None or apart(best) > 5:
                unmatched += 1
                continue
            theirs.remove(best)
            far, scores = max(far, apart(best)), max(scores, abs(score - best[1]))
        unmatched += len(theirs)
    print(f"predict      {both[0]} boxes here, {both[1]} there, {unmatched} without a partner")
    print(f"             at most {far:.4f} pixels and {scores:.6f} in score apart")


def load_strictly(weights):
    """Returns Ultralytics' model with the weights of a file of ours."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        told = json.loads(file.metadata()["ringmaster"])
        state = {name: file.get_tensor(name) for name in file.keys()}
    names = dict(enumerate(told["names"]))
    model = YOLO(f"{told['model']}.yaml")
    network = DetectionModel(f"{told['model']}.yaml", nc=len(names), verbose=False)
    if "class_width" in told:
        # As wide as for that many classes: it was tuned from weights for others.
        network.load(DetectionModel(f"{told['model']}.yaml", nc=told["class_width"], verbose=False), verbose=False)
    network.load_state_dict(state, strict=True)
    network.names = names
    model.model = network.eval()
    return model


def compare_onnx(arguments, model, weights, data, scratch):
    import onnxruntime

    path = scratch / "exported.onnx"
    run(arguments, "export", "--weights", weights, "--imgsz", arguments.imgsz, "--output", path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    side = arguments.imgsz
    images = numpy.random.default_rng(0).random((3, 3, side, side), dtype=numpy.float32)
    got = session.run(None, {session.get_inputs()[0].name: images})[0]
    with torch.no_grad():
        expected = model.model(torch.from_numpy(images))[0].numpy()
    far = numpy.abs(got - expected)
    print(f"onnx         {list(got.shape)}: boxes at most {far[:, :4].max():.6f} pixels, scores {far[:, 4:].max():.7f} apart")
    pictures = [path for path in sorted(data.parent.rglob("*")) if path.suffix in (".jpg", ".png")][:PICTURES]
    settings = {"imgsz": side, "conf": CONF, "rect": False, "device": "cpu", "verbose": False}
    runners = (YOLO(path, task="detect"), model)
    boxes, far = 0, 0.0
    for picture in pictures:
        ours, theirs = (runner.predict(str(picture), **settings)[0].boxes.data for runner in runners)
        if ours.shape != theirs.shape:
            sys.exit(f"{picture.name}: {len(ours)} boxes by the ONNX file in Ultralytics, {len(theirs)} by its own model")
        boxes, far = boxes + len(ours), max(far, (ours - theirs).abs().max().item() if len(ours) else 0.0)
    print(f"             in Ultralytics {boxes} boxes on {len(pictures)} photos, at most {far:.4f} pixels apart")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--weights", required=True, type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=640)
    arguments = parser.parse_args()
    arguments.ringmaster = str(arguments.ringmaster.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        is_ours = arguments.weights.suffix == ".safetensors"
        model = load_strictly(arguments.weights) if is_ours else YOLO(arguments.weights)
        if arguments.data:
            # A copy: Ultralytics writes its caches beside the labels, and takes `path: .` for the working directory.
            folder = shutil.copytree(arguments.data.resolve().parent, scratch / "data")
            data = folder / arguments.data.name
            text = data.read_text()
            data.write_text(text.replace("path: .\n", f"path: {folder}\n"))
        else:
            data = draw(model.names, scratch / "drawn", arguments.pictures)
        compare_val(arguments, model, arguments.weights, data, scratch)
        if is_ours:
            compare_onnx(arguments, model, arguments.weights, data, scratch)
        else:
            compare_predict(arguments, model, arguments.weights, data.parent / "images" / "val", scratch)


main()
