#!/usr/bin/env python3
"""Times training steps of Ultralytics' model in PyTorch and of `ringmaster bench step`, by turns.

    bench/step.py --ringmaster PROGRAM [--models M...] [--imgsz N] [--rounds K] [--steps K] [-- ARGUMENT...]

What follows `--` is given to `ringmaster bench step` alone. Needs Ultralytics (8.4.190 is what figures were made with) in the
Python that runs this. Both sides compute forward, loss, backward, sum over ranks, clipping and SGD on pictures that stay in
memory, with fresh processes in every round; a side's figure is the median over rounds of the median step of rank 0. Three
set-ups: one process with one thread and 4 images, one process with two threads and 8 images, two processes with one thread and 4
images each (on the other side, DistributedDataParallel over gloo). Prints a Markdown table with the ratios of our images a second
to theirs, and of our largest process to theirs.
"""

import argparse
import pathlib
import statistics
import sys
import time

import peers

# Processes, threads of each, images of a step over all processes.
SET_UPS = [(1, 1, 4), (1, 2, 8), (2, 1, 8)]


def rank_of_theirs(rank, workers, threads, batch, model, imgsz, steps, port):
    """Is one rank: prints the median step in milliseconds, and the peak memory of this process in MB."""
    import resource

    import torch
    import torch.distributed as group
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if workers > 1:
        group.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    network = DetectionModel(f"{model}.yaml", nc=80, verbose=False)
    network.args = get_cfg()
    network.criterion = network.init_criterion()
    network.train()
    trained = torch.nn.parallel.DistributedDataParallel(network) if workers > 1 else network
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.937, nesterov=True, weight_decay=5e-4)
    count = batch // workers
    boxes = torch.cat([torch.rand(8 * count, 2) * 0.7 + 0.15, torch.full((8 * count, 2), 0.3)], 1)
    resident = {
        "img": torch.rand(count, 3, imgsz, imgsz),
        "cls": (torch.arange(8 * count) * 7 % 80).float().view(-1, 1),
        "bboxes": boxes,
        "batch_idx": torch.arange(count).repeat_interleave(8).float(),
    }
    times = []
    for _ in range(steps + steps // 4):
        start = time.perf_counter()
        loss, _ = trained(resident)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm=10.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    if rank == 0:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(statistics.median(times[steps // 4 :]) * 1e3, peak, flush=True)
    if workers > 1:
        group.destroy_process_group()


def theirs(arguments, model, workers, threads, batch):
    given = (threads, batch, model, arguments.imgsz, arguments.steps)
    line = peers.rank_0_says(__file__, "--their-rank", workers, given, {"OMP_NUM_THREADS": str(threads)})
    milliseconds, peak = map(float, line.split())
    return batch / milliseconds * 1e3, peak


def ours(arguments, model, workers, threads, batch):
    command = [arguments.ringmaster, "bench", "step", "--model", model, "--imgsz", arguments.imgsz]
    command += ["--workers", workers, "--threads", threads, "--batch", batch, "--steps", arguments.steps, *arguments.more]
    report = peers.reported(command)
    return report["images_per_second"], report["peak_megabytes"]


def main():
    if sys.argv[1:2] == ["--their-rank"]:
        *numbers, model, imgsz, steps, port = sys.argv[2:]
        return rank_of_theirs(*map(int, numbers), model, *map(int, (imgsz, steps, port)))
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ringmaster", required=True, type=pathlib.Path)
    parser.add_argument("--models", nargs="+", default=["yolov8n", "yolo11n"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    arguments, arguments.more = peers.parsed(parser)
    arguments.ringmaster = arguments.ringmaster.resolve()

    print("| model | processes x threads | images | PyTorch | ringmaster | ratio | memory | memory | ratio |")
    print("|---" * 9 + "|")
    for model in arguments.models:
        for workers, threads, batch in SET_UPS:
            figures = {theirs: [], ours: []}
            for _ in range(arguments.rounds):
                for side, seen in figures.items():
                    seen.append(side(arguments, model, workers, threads, batch))
            (their_speed, their_peak), (our_speed, our_peak) = (
                map(statistics.median, zip(*figures[side])) for side in (theirs, ours)
            )
            cells = f"{their_speed:.2f}/s | {our_speed:.2f}/s | {our_speed / their_speed:.2f}"
            memory = f"{their_peak:.0f} MB | {our_peak:.0f} MB | {our_peak / their_peak:.2f}"
            print(f"| {model} | {workers} x {threads} | {batch} | {cells} | {memory} |", flush=True)


main()
