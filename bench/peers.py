"""What the benchmarks beside other trainers share: their arguments, our program's reports, and ranks over gloo."""

import json
import os
import socket
import subprocess
import sys


def parsed(parser):
    """Returns the arguments, and what follows `--`, which is for our program alone."""
    before, after = sys.argv[1:], []
    if "--" in before:
        middle = before.index("--")
        before, after = before[:middle], before[middle + 1 :]
    return parser.parse_args(before), after


def reported(command):
    """Runs our program with `--json` and returns what it reports."""
    command = [*map(str, command), "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{command} failed:\n{run.stderr}")
    return json.loads(run.stdout)


def rank_0_says(script, flag, workers, given, environment=None):
    """Runs a script once for each rank, `FLAG RANK WORKERS GIVEN... PORT`, and returns the last line of rank 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, script, flag, *map(str, (rank, workers, *given, port))],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"} | (environment or {}),
        )
        for rank in range(workers)
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        sys.exit("PyTorch failed")
    # It talks first.
    return outputs[0].splitlines()[-1]
