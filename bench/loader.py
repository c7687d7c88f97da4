"""Times Ultralytics' training loader (decoding by OpenCV, mosaic, affine, HSV, flips) on one core, next to ours.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch==2.9.0 ultralytics==8.4.190 opencv-python-headless
    /tmp/venv/bin/python bench/loader.py DATA IMGSZ [--epochs N] [--ringmaster PROGRAM]

DATA is a data.yaml with label files (both programs read it; theirs writes a cache file beside the labels). One process, one thread in OpenCV and in torch, no worker
processes: images a second are those of one core. Prints one JSON object a line; with --ringmaster, also that of
`ringmaster bench loader --threads 1`, run in turn with the other, so that both see the same machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch
import ultralytics
import yaml
from ultralytics.cfg import get_cfg
from ultralytics.data import build_yolo_dataset
from ultralytics.data.utils import check_det_dataset


def theirs(data: str, imgsz: int, batch: int, epochs: int) -> list[dict]:
    """Makes every training picture once an epoch, batch by batch, as their loader does in its process."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cfg = get_cfg(overrides={"imgsz": imgsz, "task": "detect", "mode": "train", "workers": 0})
    description = check_det_dataset(absolute(data))
    dataset = build_yolo_dataset(cfg, description["train"], batch, description, mode="train", rect=False)
    order = torch.Generator().manual_seed(0)
    reports = []
    for epoch in range(epochs):
        samples = torch.randperm(len(dataset), generator=order).tolist()
        started = time.perf_counter()
        for first in range(0, len(samples), batch):
            dataset.collate_fn([dataset[sample] for sample in samples[first : first + batch]])
        seconds = time.perf_counter() - started
        reports.append(
            {
                "loader": f"ultralytics {ultralytics.__version__}, OpenCV {cv2.__version__}",
                "epoch": epoch,
                "images": len(samples),
                "imgsz": imgsz,
                "seconds": round(seconds, 3),
                "images_per_second_per_core": round(len(samples) / seconds, 1),
            }
        )
    return reports


def absolute(data: str) -> str:
    """Writes a copy of a data.yaml whose path does not depend on the working folder, for theirs does."""
    content = yaml.safe_load(Path(data).read_text())
    content["path"] = str((Path(data).resolve().parent / content.get("path", ".")).resolve())
    copy = Path(tempfile.mkdtemp()) / "data.yaml"
    copy.write_text(yaml.safe_dump(content))
    return str(copy)


def ours(program: str, data: str, imgsz: int, batch: int, epochs: int) -> dict:
    """Runs our benchmark and returns what it prints."""
    command = [program, "bench", "loader", "--data", data, "--imgsz", str(imgsz), "--batch", str(batch)]
    command += ["--threads", "1", "--epochs", str(epochs), "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stdout
    return {"loader": f"ringmaster, {epochs} epochs", **json.loads(output)}


def main() -> None:
    """Measures both loaders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("imgsz", type=int)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--ringmaster", help="our program")
    args = parser.parse_args()
    if not Path(args.data).exists():
        sys.exit(f"{args.data} does not exist")
    for _ in range(2):
        if args.ringmaster:
            # The first epoch alone decodes every picture; more epochs show what the cache is worth.
            for epochs in (1, args.epochs):
                print(json.dumps(ours(args.ringmaster, args.data, args.imgsz, args.batch, epochs)), flush=True)
        for report in theirs(args.data, args.imgsz, args.batch, args.epochs):
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
