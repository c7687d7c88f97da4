#!/usr/bin/env python3
"""Times sums over worker processes by gloo (PyTorch's on CPUs) and by `ringmaster bench allreduce`, by turns.

    bench/allreduce.py --ringmaster PROGRAM [--workers N...] [--bytes B...] [--kind KIND...] [--rounds K]
        [-- ARGUMENT...]

Kinds: exact, f32, and bf16 (f32 sums that travel as bfloat16). What follows `--` is given to `ringmaster bench allreduce` alone.

Needs torch (2.9.0 is what figures were made with) in the Python that runs this. Every round runs each side once, with fresh
processes on loopback; a side's figure is the median over rounds of the median sum of rank 0. Prints a Markdown table with the
ratios of our time to gloo's.
"""

import argparse
import pathlib
import statistics
import sys
import time

import peers

ITERATIONS = 20


def rank_of_gloo(rank, workers, size, port):
    """Is one rank: sums ones as often as our benchmark does, and prints the median in milliseconds."""
    import torch
    import torch.distributed as group

    torch.set_num_threads(1)
    group.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    values, times = torch.ones(size // 4), []
    for iteration in range(ITERATIONS + ITERATIONS // 4):
        values.fill_(1)
        start = time.perf_counter()
        group.all_reduce(values)
        times.append(time.perf_counter() - start)
    assert (values == workers).all()
    if rank == 0:
        print(statistics.median(times[ITERATIONS // 4 :]) * 1e3, flush=True)
    group.barrier()
    group.destroy_process_group()


def gloo(workers, size):
    return float(peers.rank_0_says(__file__, "--gloo-rank", workers, (size,)))


KINDS = {"exact": ["--sum", "exact"], "f32": ["--sum", "f32"], "bf16": ["--sum", "f32", "--wire", "bf16"]}


def ours(program, workers, size, kind, more):
    command = [program, "bench", "allreduce", "--workers", workers, "--bytes", size, *KINDS[kind]]
    command += ["--iterations", ITERATIONS, *more]
    return peers.reported(command)["milliseconds_median"]


def main():
    if sys.argv[1:2] == ["--gloo-rank"]:
        return rank_of_gloo(*map(int, sys.argv[2:]))
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--bytes", nargs="+", type=int, default=[1_000_000, 12_600_000, 100_000_000])
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments, more = peers.parsed(parser)
    print("| workers | bytes | gloo f32 | " + " | ".join(f"{kind} | ratio" for kind in arguments.kind) + " |")
    print("|---" * (3 + 2 * len(arguments.kind)) + "|")
    for workers in arguments.workers:
        for size in arguments.bytes:
            times = {side: [] for side in ["gloo", *arguments.kind]}
            for _ in range(arguments.rounds):
                times["gloo"].append(gloo(workers, size))
                for kind in arguments.kind:
                    times[kind].append(ours(arguments.ringmaster.resolve(), workers, size, kind, more))
            medians = {side: statistics.median(values) for side, values in times.items()}
            cells = [f"{medians[kind]:.1f} ms | {medians[kind] / medians['gloo']:.2f}" for kind in arguments.kind]
            print(f"| {workers} | {size} | {medians['gloo']:.1f} ms | " + " | ".join(cells) + " |", flush=True)


main()
