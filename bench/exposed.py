#!/usr/bin/env python3
"""Measures how much of a slow link's time a training step still waits for.

    bench/exposed.py --ringmaster PROGRAM [--rounds K] [--steps K] [--share X] [--bytes B] [-- ARGUMENT...]

What follows `--` is given to `ringmaster bench step`. Needs root, `ip` and `tc`: the ranks talk by TCP over the loopback of a network
namespace of their own, on which a token bucket (`tbf`) lets through as much as makes an all-reduce of B bytes, those of a
gradient, take the share X of a step. Each round times the step on the free link, the all-reduce and the step on the slow one.
Exposed is what the slow link adds to the step, in parts of the all-reduce's time: 1 when nothing is hidden behind computing.
Prints a line for each round, and the median.
"""

import argparse
import os
import pathlib
import statistics
import subprocess

import peers

NAMESPACE = f"ringmaster-bench-{os.getpid()}"
INSIDE = ["ip", "netns", "exec", NAMESPACE]

# Both ranks' bytes pass the one token bucket, and each rank of two sends the whole vector once.
RANKS = 2


def run(*command):
    subprocess.run(command, check=True)


def milliseconds(program, bench, *given):
    command = [program, "bench", bench, "--workers", RANKS, "--tcp", *given]
    return peers.reported([*INSIDE, *command])["milliseconds_median"]


def slow_down(bytes_a_second):
    rate = f"{8 * bytes_a_second:.0f}bit"
    # The bucket holds a few of the loopback's packets of 64 KiB; nothing is dropped.
    run(*INSIDE, "tc", "qdisc", "replace", "dev", "lo", "root", "tbf", "rate", rate, "burst", "256kb", "latency", "30s")


def speed_up():
    run(*INSIDE, "tc", "qdisc", "del", "dev", "lo", "root")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--bytes", type=int, default=12_700_000, help="of a gradient; yolov8n's by default")
    arguments, more = peers.parsed(parser)
    program = arguments.ringmaster.resolve()
    run("ip", "netns", "add", NAMESPACE)
    try:
        run(*INSIDE, "ip", "link", "set", "lo", "up")
        parts = []
        for _ in range(arguments.rounds):
            step = ["step", "--steps", arguments.steps, *more]
            free = milliseconds(program, *step)
            slow_down(RANKS * arguments.bytes / (arguments.share * free / 1000))
            ring = milliseconds(program, "allreduce", "--bytes", arguments.bytes, "--iterations", arguments.steps)
            slow = milliseconds(program, *step)
            speed_up()
            parts.append((slow - free) / ring)
            print(
                f"step {free:.0f} ms, all-reduce on the slow link {ring:.0f} ms ({ring / free:.2f} of it),"
                f" step there {slow:.0f} ms: exposed {parts[-1]:.2f}",
                flush=True,
            )
        print(f"exposed {statistics.median(parts):.2f} (median of {len(parts)}, {min(parts):.2f} to {max(parts):.2f})")
    finally:
        run("ip", "netns", "del", NAMESPACE)


main()
