#!/usr/bin/env python3
"""Measures what fault tolerance costs when nothing fails.

    bench/guarded.py --ringmaster PROGRAM [--rounds K] [--steps K] [--checkpoint-every N] [-- ARGUMENT...]

What follows `--` is given to `ringmaster bench step`. By turns: the bare training loop; the same with a coordinator, sessions,
heartbeats, a journal and digests of the state; and that with checkpoints. Each is the mean step of rank 0, for what
happens every so many steps counts. Prints a line for each
round, and the medians of the ratios: guarded to bare, and with checkpoints to guarded.
"""

import argparse
import pathlib
import statistics

import peers


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--checkpoint-every", type=int, default=20)
    arguments, more = peers.parsed(parser)
    command = [arguments.ringmaster.resolve(), "bench", "step", "--steps", arguments.steps, *more]
    ways = {
        "bare": [],
        "guarded": ["--guarded"],
        "with checkpoints": ["--guarded", "--checkpoint-every", arguments.checkpoint_every],
    }
    guarded, checkpoints = [], []
    for turn in range(arguments.rounds):
        # Who begins changes.
        order = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        took = {way: peers.reported([*command, *ways[way]])["milliseconds_mean"] for way in order}
        guarded.append(took["guarded"] / took["bare"])
        checkpoints.append(took["with checkpoints"] / took["guarded"])
        print(", ".join(f"{way} {took[way]:.2f} ms" for way in ways), f": {guarded[-1]:.3f}, {checkpoints[-1]:.3f}", flush=True)
    for name, ratios in (("guarded to bare", guarded), ("with checkpoints to guarded", checkpoints)):
        print(f"{name}: {statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})")


main()
