"""`python -m tests.fakes.kubernetes --port 0 --nodes 4 --auto-ready`: the emulator as a process of its own.

Prints its URL as one line of JSON, serves until it is told to stop (SIGTERM). Control:
GET /_control/counters, POST /_control/reset (counters), POST /_control/settle.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from tests.fakes.kubernetes import Emulator, Options
from tests.fakes.kubernetes.nodes import H100


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.kubernetes", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--nodes", type=int, default=2, help="how many, named gpu-0, gpu-1, …")
    parser.add_argument("--gpus", type=int, default=8, help="of a node")
    parser.add_argument("--product", default=H100, help="nvidia.com/gpu.product of the nodes")
    parser.add_argument("--pods", type=int, default=110, help="most pods of a node")
    parser.add_argument("--token", default="", help="the one bearer token that is let in")
    parser.add_argument("--auto-ready", action="store_true", help="pods are scheduled and made ready at once")
    parser.add_argument("--leader-worker-sets", action="store_true", help="serve leaderworkerset.x-k8s.io")
    parser.add_argument("--no-controllers", action="store_true", help="nothing happens by itself")
    asked = parser.parse_args()

    emulator = Emulator(
        port=asked.port, options=Options(token=asked.token), leader_worker_sets=asked.leader_worker_sets
    )
    emulator.options.control["reset"] = lambda _: emulator.counters.reset()
    emulator.options.control["settle"] = lambda _: emulator.cluster.settle()
    for number in range(asked.nodes):
        emulator.cluster.add_node(
            f"gpu-{number}",
            gpus=asked.gpus,
            product=asked.product,
            zone=f"eu-north1-{'abc'[number % 3]}",
            cpu=str(16 * asked.gpus),
            memory=f"{128 * asked.gpus}Gi",
            extended={"pods": str(asked.pods)},
        )
    emulator.cluster.kubelets.auto_ready = asked.auto_ready
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with emulator:
        if not asked.no_controllers:
            emulator.cluster.start_controllers()
        sys.stdout.write(json.dumps({"url": emulator.url}) + "\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
