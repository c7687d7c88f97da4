#!/usr/bin/env python3
"""Trains the same model on the same data here and with Ultralytics, and compares accuracy, time and memory.

    bench/accuracy.py --ringmaster PROGRAM --data data.yaml [--models M...] [--seeds S...] [--epochs N] [--imgsz N]
        [--batch N] [--sides SIDE...] [--workers N] [-- ARGUMENT...]

From scratch, both with their defaults but for the arguments above; what follows `--` is given to `ringmaster train` alone.
Needs Ultralytics (8.4.190 is what figures were made with) in the Python that runs this. Both sides run one after the other on the whole
machine: one Ultralytics process with as many threads as it takes, and two workers with half of the threads each. A run's
figures are those of its best epoch by mAP50-95 in `results.csv`, the wall time of the whole command, and the peak
resident memory of the largest process. Prints a row for each run, and a Markdown table of the means.
"""

import argparse
import csv
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import peers

ULTRALYTICS = """
import json, sys
from ultralytics import YOLO
given = json.loads(sys.argv[1])
YOLO(given.pop("model") + ".yaml").train(pretrained=False, device="cpu", plots=False, **given)
"""


def best_epoch(results):
    """Returns (mAP50, mAP50-95) of the best row of a results.csv, whose columns both sides name alike."""
    rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(results.open())]
    return max(
        ((float(row["metrics/mAP50(B)"]), float(row["metrics/mAP50-95(B)"])) for row in rows), key=lambda pair: pair[1]
    )


def measured(command, folder, start_in):
    """Runs a command to its end; returns its best accuracy, seconds, and the peak memory of its largest process in MB."""
    report = folder / "peak"
    start = time.monotonic()
    watched = [sys.executable, "-c", WATCH, str(report), *command]
    run = subprocess.run(watched, capture_output=True, text=True, cwd=start_in)
    took = time.monotonic() - start
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{run.stdout[-4000:]}{run.stderr[-4000:]}")
    (results,) = folder.glob("**/results.csv")
    return *best_epoch(results), took, int(report.read_text()) / 1024


# `ru_maxrss` of waited-for children and theirs is the largest process, not their sum.
WATCH = """
import pathlib, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def ours(arguments, model, seed, folder, data):
    command = [arguments.ringmaster, "train", "--workers", str(arguments.workers), "--device", "cpu", "--data", str(data), "--model", model]
    command += ["--imgsz", str(arguments.imgsz), "--epochs", str(arguments.epochs), "--batch", str(arguments.batch)]
    command += ["--seed", str(seed), "--project", str(folder / "runs"), *arguments.more]
    return measured(command, folder, folder)


def theirs(arguments, model, seed, folder, data):
    # `path: .` in a data.yaml means the working directory there.
    given = {
        "model": model,
        "data": str(data),
        "imgsz": arguments.imgsz,
        "epochs": arguments.epochs,
        "batch": arguments.batch,
        "seed": seed,
        "project": str(folder / "runs"),
    }
    return measured([sys.executable, "-c", ULTRALYTICS, json.dumps(given)], folder, data.parent)


SIDES = {"ringmaster": ours, "Ultralytics": theirs}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--models", nargs="+", default=["yolov8n", "yolo11n"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="of ringmaster")
    arguments, arguments.more = peers.parsed(parser)
    arguments.ringmaster = str(arguments.ringmaster.resolve())

    means = {}
    for model in arguments.models:
        figures = {side: [] for side in arguments.sides}
        for seed in arguments.seeds:
            for side in arguments.sides:
                with tempfile.TemporaryDirectory() as scratch:
                    # A copy: Ultralytics writes its caches beside the labels.
                    folder = pathlib.Path(scratch)
                    copy = shutil.copytree(arguments.data.resolve().parent, folder / "data")
                    figure = SIDES[side](arguments, model, seed, folder, copy / arguments.data.name)
                figures[side].append(figure)
                print(model, "seed", seed, side, *(f"{value:.3f}" for value in figure), flush=True)
        means[model] = {side: [statistics.mean(column) for column in zip(*runs)] for side, runs in figures.items()}

    print("\n| model | trainer | mAP50 | mAP50-95 | wall time | largest process |\n|---|---|---|---|---|---|")
    for model, sides in means.items():
        for side, (map50, map50_95, seconds, megabytes) in sides.items():
            print(f"| {model} | {side} | {map50:.3f} | {map50_95:.3f} | {seconds:.0f} s | {megabytes:.0f} MB |")


main()
