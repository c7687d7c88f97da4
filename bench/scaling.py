#!/usr/bin/env python3
"""Measures what working together costs: N workers in a ring beside N alone, on the same cores at the same time.

    bench/scaling.py --ringmaster PROGRAM [--workers N] [--rounds K] [--steps K] [--batch B] [-- ARGUMENT...]

What follows `--` is given to `ringmaster bench step`; B images of a step go to each worker, in one slot. By turns, N workers of one
ring, and N that know nothing of each other and start together, each with one thread. Prints the images a second of each round, and the
median of the ratios.
"""

import argparse
import concurrent.futures
import pathlib
import statistics

import peers


def images_per_second(program, workers, batch, steps, more):
    """Of one ring."""
    command = [program, "bench", "step", "--workers", workers, "--batch", workers * batch, "--micro-batch", batch]
    return peers.reported([*command, "--steps", steps, *more])["images_per_second"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    arguments, more = peers.parsed(parser)
    program = arguments.ringmaster.resolve()

    def alone(_):
        return images_per_second(program, 1, arguments.batch, arguments.steps, more)

    ratios = []
    with concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:
        for turn in range(arguments.rounds):
            figures = {}
            # Who begins changes.
            for side in ["together", "apart"][:: 1 if turn % 2 == 0 else -1]:
                if side == "together":
                    figures[side] = images_per_second(program, arguments.workers, arguments.batch, arguments.steps, more)
                else:
                    figures[side] = sum(pool.map(alone, range(arguments.workers)))
            ratios.append(figures["together"] / figures["apart"])
            print(f"together {figures['together']:.1f} images/s, apart {figures['apart']:.1f}: {ratios[-1]:.2f}", flush=True)
    print(f"ratio {statistics.median(ratios):.2f} (median of {len(ratios)}, {min(ratios):.2f} to {max(ratios):.2f})")


main()
