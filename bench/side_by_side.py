#!/usr/bin/env python3
"""Compares the speed of two ways to train, by turns on the same machine.

    bench/side_by_side.py [--pairs N] [--per epoch|image] PROGRAM ARGUMENTS... -- PROGRAM ARGUMENTS...

Each side is a whole `ringmaster train` command without `--project`. Their runs alternate; a run's figure is the mean time of
its epochs but the first, as `events.jsonl` has it; with `--per image`, the time of a thousand training images. Prints the figures of each pair, and the median of their ratios: the
first side's time through the second's.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile


def seconds(command, per):
    """Runs a command and returns the mean time of an epoch, or of a thousand training images."""
    with tempfile.TemporaryDirectory() as project:
        run = subprocess.run([*command, "--project", project], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
        (events,) = pathlib.Path(project).glob("*/events.jsonl")
        logged = [json.loads(line) for line in events.read_text().splitlines()]
    epochs = [event for event in logged if event["event"] == "epoch"]
    took = {"epoch": lambda epoch: epoch["seconds"], "image": lambda epoch: 1000 / epoch["images_per_second"]}
    return statistics.mean(took[per](epoch) for epoch in epochs[1:])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--per", choices=["epoch", "image"], default="epoch", help="image: validation and saving left out")
    parser.add_argument("sides", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    sides = arguments.sides
    if sides[:1] == ["--"]:
        sides = sides[1:]
    if "--" not in sides:
        parser.error("two commands with -- between them")
    middle = sides.index("--")
    first, second = sides[:middle], sides[middle + 1 :]
    ratios = []
    for pair in range(arguments.pairs):
        # Who begins changes, so that a machine that gets warm or busy favours nobody.
        order = (first, second) if pair % 2 == 0 else (second, first)
        times = [seconds(command, arguments.per) for command in order]
        one, two = times if pair % 2 == 0 else times[::-1]
        ratios.append(one / two)
        print(f"{one:.3f} s, {two:.3f} s: {one / two:.3f}", flush=True)
    print(f"ratio {statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})")


main()
