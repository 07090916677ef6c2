"""Which replica: ours beside round robin, least load and vllm-router's cache_aware.

`python -m benchmarks.routing` prints, for each workload (routing_workloads.py), the share of prompt tokens that came
from a cache and the time to the first token, at p50 and p95, and what part of round robin's that is:

- simulated: eight engines with a model of vLLM's prefix cache (routing_engine.py) in simulated time: exact, no noise;
  also with four gateways that each get a part of every conversation;
- over HTTP: the same engines in a process of their own, in real time, through our gateway as it is deployed and through
  vllm-router;
- with `--engines`: two real vLLMs on the CPU, a small model, caches that are small as well.

To reach: where prompts share something, the hits of cache_aware, more than all others, and an earlier first token than
any; where they share nothing, no later one than round robin's. `--only simulated|http|engines`, `--seconds` and
`--workloads` choose.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from benchmarks import routing_peers as peers
from benchmarks import routing_vllm as vllm
from benchmarks.routing_engine import Speed
from benchmarks.routing_peers import Direct, Door
from benchmarks.routing_replay import Replay, reset
from benchmarks.routing_simulation import REPLICAS, LeastLoad, Ours, Policy, Result, RoundRobin, Several, simulate
from benchmarks.routing_workloads import WORKLOADS

SIMULATED_SECONDS = 120.0
HTTP_SECONDS = 45.0
HTTP_WORKLOADS = ("multi-turn", "shared prefixes", "unshared")
_WARM = 0.25  # of the time: caches fill, nothing counts

_POLICIES: dict[str, Callable[[], Policy]] = {
    "round robin": RoundRobin,
    "least load": LeastLoad,
    "ours": Ours,
    "4 gateways: round robin": lambda: Several([RoundRobin() for _ in range(4)]),
    "4 gateways: least load": lambda: Several([LeastLoad() for _ in range(4)]),
    "4 gateways: ours": lambda: Several([Ours() for _ in range(4)]),
}


_DOORS: dict[str, Callable[[Path, Sequence[str]], AbstractContextManager[Door]]] = {
    "vllm-router round_robin": lambda home, urls: peers.vllm_router(home, urls, "round_robin"),
    "least load, no gateway": lambda _, urls: nullcontext(Direct(LeastLoad(), urls)),
    "vllm-router cache_aware": lambda home, urls: peers.vllm_router(home, urls, "cache_aware"),
    "ours": peers.ours,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--only", choices=("simulated", "http", "engines"))
    parser.add_argument("--engines", action="store_true", help="two real vLLMs as well")
    parser.add_argument("--seconds", type=float, help="of each run")
    parser.add_argument("--workloads", nargs="+", choices=tuple(WORKLOADS))
    options = parser.parse_args(arguments)
    if options.only in (None, "simulated"):
        simulated(options.workloads or tuple(WORKLOADS), options.seconds or SIMULATED_SECONDS)
    if options.only in (None, "http"):
        asyncio.run(over_http(options.workloads or HTTP_WORKLOADS, options.seconds or HTTP_SECONDS))
    if options.only == "engines" or options.engines:
        asyncio.run(with_engines(options.seconds or HTTP_SECONDS))


def simulated(names: Sequence[str], seconds: float) -> None:
    """In simulated time."""
    for name in names:
        workload = WORKLOADS[name](seconds, 1.0)
        found = {
            label: simulate(workload, make(), Speed(), warm_seconds=_WARM * seconds, seconds=seconds)
            for label, make in _POLICIES.items()
        }
        _table(f"{name}, simulated", found)


async def over_http(names: Sequence[str], seconds: float) -> None:
    """In real time."""
    with _folder() as home, peers.replicas(REPLICAS) as urls:
        for name in names:
            workload = WORKLOADS[name](seconds, 1.0)
            found = {}
            for label, make in _DOORS.items():
                await reset(urls)
                with make(home, urls) as door:
                    found[label] = await Replay(door, urls, _WARM * seconds, seconds).run(workload)
            _table(f"{name}, over HTTP", found)


async def with_engines(seconds: float) -> None:
    """Against real vLLMs. A pair of its own for each, so that every one begins with empty caches."""
    workload = vllm.conversations(seconds)
    found = {}
    for label in ("round robin, no gateway", "ours"):
        with _folder() as home, vllm.engines(home) as urls, _before_engines(label, home, urls) as door:
            found[label] = await Replay(door, urls, _WARM * seconds, seconds).run(workload)
    _table("two vLLMs on the CPU", found)


def _before_engines(label: str, home: Path, urls: Sequence[str]) -> AbstractContextManager[Door]:
    if label == "ours":
        return peers.ours(home, urls, vllm.SERVED)
    return nullcontext(Direct(RoundRobin(len(urls)), urls, vllm.SERVED))


@contextmanager
def _folder() -> Iterator[Path]:
    """One that an unprivileged Redis may enter."""
    with tempfile.TemporaryDirectory(prefix="freehold-bench-", dir="/var/tmp") as name:
        home = Path(name)
        home.chmod(0o755)
        yield home


def _table(title: str, found: Mapping[str, Result]) -> None:
    """Ratios are to the first."""
    base = next(iter(found.values()))
    print(f"\n{title}  ({len(base.ttft):,} requests)")
    print(f"{'':<26}{'hit rate':>9}  {'TTFT p50':>16}  {'TTFT p95':>16}")
    for label, result in found.items():
        cells = [_time(result.quantile(share), base.quantile(share)) for share in (0.5, 0.95)]
        print(f"  {label:<24}{result.hit_rate:>9.1%}  {cells[0]:>16}  {cells[1]:>16}", flush=True)


def _time(seconds: float, base: float) -> str:
    return f"{seconds * 1e3:,.0f} ms ({seconds / base:.2f})" if base else "–"


if __name__ == "__main__":
    main()
