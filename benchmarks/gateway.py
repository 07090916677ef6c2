"""The gateway beside its peers: processor time a request, latency, memory, hang-ups, revocation.

`python -m benchmarks.gateway`; `--peers nginx,ours --rounds 3` for a quick look, `--profile DIR` for where our time
goes. Everything runs on this machine at once: the gateway under test alone on one core, stub engine (gateway_stub.py),
load (gateway_load.py) and Redis on another. The peers take turns, round after round, so that whatever else runs hits
all of them; figures are medians of the rounds, and only ratios from one run mean anything. Ours runs with everything on
(gateway_ours.py).

Processor time comes from the kernel's clock of each process; it is divided by what the stub has answered between the
two readings, which lie within the load.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from benchmarks import gateway_life as life
from benchmarks import gateway_peers as peers
from benchmarks.gateway_load import AnswersWrong, Load, Request
from benchmarks.gateway_ours import Ours, ours
from benchmarks.gateway_peers import Peer
from benchmarks.gateway_stub import FRAMES
from benchmarks.onebox import Figure
from freehold.wire import names

PEERS: dict[str, Callable[[Path, int, str], AbstractContextManager[Peer]]] = {
    "nginx": peers.nginx,
    "vllm-router": peers.vllm_router,
    "litellm": peers.litellm,
    "ours": ours,
}
CONNECTIONS = 32
ROUNDS = 5
SECONDS = 4.0
_WARM_UP_SECONDS = 3.0  # once for each peer
_WARM_SECONDS = 1.0  # the load's own start included
_MARGIN_SECONDS = 0.2  # the second reading lies so long before the end of the load
_LATENCY_SECONDS = 2.0

JSON, SSE = "JSON", "SSE"
JSON_HASTY = "JSON without pause"  # as many requests as the gateway under test takes: a different rate for each
SSE_PLAIN = "SSE without usage"  # as clients get it that do not ask for usage
SSE_HASTY = "SSE without pause"  # as no engine writes frames; whoever is slow finds several of them in one read
PAUSE_SECONDS = 0.007  # JSON: some 4,000 requests a second through all but LiteLLM

PARTS = CPU, LATENCY, LIFE = "cpu", "latency", "life"
_WORKLOADS = {"json": JSON, "json-hasty": JSON_HASTY, "sse": SSE, "sse-hasty": SSE_HASTY}


@dataclass(frozen=True)
class Options:
    """Of one run of the benchmark.

    Attributes:
        seconds: that each measurement of processor time lasts.
        minutes: of load, to see whether memory stays flat.
        profile: folder for what py-spy sees of our gateway, or None.
    """

    peers: tuple[str, ...] = tuple(PEERS)
    workloads: tuple[str, ...] = tuple(_WORKLOADS.values())
    rounds: int = ROUNDS
    seconds: float = SECONDS
    parts: tuple[str, ...] = PARTS
    minutes: float = 1
    profile: Path | None = None


@dataclass
class Bench:
    """Everything that runs."""

    home: Path
    stub: str
    peers: dict[str, Peer]

    @property
    def ours(self) -> Ours | None:
        """Our gateway, if it takes part."""
        found = self.peers.get("ours")
        return found if isinstance(found, Ours) else None


def main() -> None:
    """Prints the table."""
    _print(figures(_options(sys.argv[1:])))


def _options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--peers", help=f"with commas (default: {','.join(PEERS)})")
    parser.add_argument("--workloads", default=",".join(_WORKLOADS), help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement (default: %(default)s)")
    parser.add_argument("--parts", help="(default: cpu,latency,life; without life where --peers chooses)")
    parser.add_argument("--minutes", type=float, default=1, help="of load for flat memory (default: %(default)s)")
    parser.add_argument("--profile", type=Path, help="write flame graphs and raw stacks of our gateway to this folder")
    given = parser.parse_args(arguments)
    return Options(
        peers=tuple(given.peers.split(",")) if given.peers else tuple(PEERS),
        workloads=tuple(_WORKLOADS[name] for name in given.workloads.split(",")),
        rounds=given.rounds,
        seconds=given.seconds,
        parts=tuple(given.parts.split(",")) if given.parts else PARTS[: 2 if given.peers else 3],
        minutes=given.minutes,
        profile=given.profile,
    )


def _print(found: Sequence[Figure]) -> None:
    width = max(len(figure.name) for figure in found)
    for figure in found:
        print(f"{figure.name:<{width}}  {figure.value:>14}  {figure.goal}")


def figures(options: Options) -> list[Figure]:
    """Starts everything and measures."""
    with _everything(options.peers) as bench:
        if options.profile is not None:
            _profile(bench, options)
            return [Figure("stacks of our gateway", str(options.profile), "")]
        found = _cpu_figures(_cpu(bench, options)) if CPU in options.parts else []
        found += _reserved(bench.ours) if CPU in options.parts and bench.ours is not None else []
        found += _latency_figures(_latency(bench, options)) if LATENCY in options.parts else []
        if LIFE in options.parts and bench.ours is not None:
            found += life.figures(bench.ours, bench.stub, minutes=options.minutes)
    return found


@contextmanager
def _everything(wanted: Sequence[str]) -> Iterator[Bench]:
    gateway_core, other_core = peers.cores()
    affinity = os.sched_getaffinity(0)
    with ExitStack() as stack:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a stream takes two sockets of the gateway
        os.sched_setaffinity(0, {other_core})  # and with us the load, Redis and the stub
        stack.callback(os.sched_setaffinity, 0, affinity)
        home = Path(tempfile.mkdtemp(prefix="freehold-bench-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o755)
        stub = stack.enter_context(peers.stub(home, other_core))
        running: dict[str, Peer] = {}
        for name in wanted:
            try:
                running[name] = stack.enter_context(PEERS[name](home / name, gateway_core, stub))
            except peers.PeerMissing as problem:
                if name == "ours":
                    raise
                print(f"{name} is left out: {problem}", file=sys.stderr)
        try:
            yield Bench(home, stub, running)
        except AnswersWrong:
            if isinstance(found := running.get("ours"), Ours):
                print(found.complaints(), file=sys.stderr)
            raise


# Processor time


@dataclass(frozen=True)
class Case:
    """One line of the table of processor time."""

    peer: str
    workload: str

    def request(self, peer: Peer) -> Request:
        """What its clients send. Our gateway asks for usage by itself; the others get such frames if clients ask."""
        return Request(
            url=peer.url,
            model="bench/hasty" if self.workload == SSE_HASTY else "bench/chat",
            headers=peer.headers,
            stream=self.workload not in (JSON, JSON_HASTY),
            forced=self.workload in (SSE, SSE_HASTY) and self.peer != "ours",
        )

    def load(self, peer: Peer, seconds: float) -> Load:
        """Begins to send it."""
        pause = PAUSE_SECONDS if self.workload == JSON else 0
        return Load(self.request(peer), connections=CONNECTIONS, seconds=seconds, pause_seconds=pause)


def _cases(running: Sequence[str], options: Options) -> list[Case]:
    # LiteLLM is measured once only: a stream through it takes as long as everything else together.
    cases = [
        Case(name, workload)
        for workload in options.workloads
        for name in running
        if name != "litellm" or workload == JSON
    ]
    if SSE in options.workloads and "nginx" in running:
        cases.append(Case("nginx", SSE_PLAIN))
    return cases


def _cpu(bench: Bench, options: Options) -> dict[Case, list[float]]:
    """Microseconds a request, a figure a round."""
    found: dict[Case, list[float]] = defaultdict(list)
    cases = _cases(tuple(bench.peers), options)
    for name, peer in bench.peers.items():  # Python imports and Rust allocates on the way
        Case(name, JSON).load(peer, _WARM_UP_SECONDS).result()
    for number in range(options.rounds):
        for case in cases if number % 2 else cases[::-1]:
            peer = bench.peers[case.peer]
            found[case].append(_measure(bench, peer, case, options.seconds))
    return {case: found[case] for case in cases}


def _measure(bench: Bench, peer: Peer, case: Case, seconds: float) -> float:
    request, load = case.request(peer), case.load(peer, seconds + _WARM_SECONDS)
    time.sleep(_WARM_SECONDS)
    began, waited = time.monotonic_ns(), peer.waited_ns()
    before, cpu_before = _served(bench, request), peer.cpu_ns()
    time.sleep(seconds - _MARGIN_SECONDS)
    after, cpu_after = _served(bench, request), peer.cpu_ns()
    taken = (peer.waited_ns() - waited) / (time.monotonic_ns() - began)
    result = load.result()
    if isinstance(peer, Ours):
        os.truncate(peer.output, 0)  # it appends; access lines would fill the disk
    each = (cpu_after - cpu_before) / 1000 / (after - before)
    rate = result.answers / (seconds + _WARM_SECONDS)
    line = f"{case.workload}, {peer.name}: {each:.1f} µs, {rate:,.0f} a second, core taken by others {taken:.0%}"
    print(f"  {line}", file=sys.stderr, flush=True)
    return each


def _served(bench: Bench, request: Request) -> float:
    """Requests the stub has answered; streams by their frames, so that those under way count in part."""
    counts = httpx.get(f"{bench.stub}/counts").json()
    return float(counts["frames"]) / FRAMES if request.stream else float(counts["answers"])


_GOALS = {  # the most that ours may cost, as a multiple of the peer
    ("nginx", JSON): 2.0,
    ("nginx", JSON_HASTY): 2.0,
    ("vllm-router", JSON): 0.35,
    ("vllm-router", JSON_HASTY): 0.35,
    ("litellm", JSON): 1 / 150,
    ("nginx", SSE): 1.3,
    ("nginx", SSE_HASTY): 1.3,
    ("vllm-router", SSE): 0.4,
    ("vllm-router", SSE_HASTY): 0.4,
}


def _reserved(ours: Ours) -> list[Figure]:
    """Says so if the gateway under test has not done what it is measured for."""
    limits = ours.redis.hlen(names.quota("k:key_0")), ours.redis.hget(names.money("tnt_bench"), "h")
    if all(limits):
        return []
    return [Figure("Limits and balance were not reserved in Redis: these figures are not of the whole gateway", "", "")]


def _cpu_figures(cpu: dict[Case, list[float]]) -> list[Figure]:
    found = []
    for case, rounds in cpu.items():
        what = f"{case.workload}, CPU a request"
        spread = f"{min(rounds):.0f}–{max(rounds):.0f}"
        found.append(Figure(f"{what}: {case.peer}", f"{median(rounds):.1f} µs", f"({spread})"))
    for (name, workload), most in _GOALS.items():
        mine, theirs = cpu.get(Case("ours", workload)), cpu.get(Case(name, workload))
        if mine and theirs:
            ratio = median(one / other for one, other in zip(mine, theirs, strict=True))
            goal = f"≤ {most} ×" if most > 0.1 else f"≤ 1/{1 / most:.0f}"
            value = f"{ratio:.2f} ×" if most > 0.1 else f"1/{1 / ratio:.0f}"
            found.append(Figure(f"{workload}, ours to {name}", value, goal))
    return found


# Latency


def _latency(bench: Bench, options: Options) -> dict[str, list[float]]:
    """Milliseconds at one connection, p50 of a round each."""
    found: dict[str, list[float]] = defaultdict(list)
    direct = Peer("direct", bench.stub, 0)
    for _ in range(options.rounds):
        for name, peer in {"direct": direct, **bench.peers}.items():
            load = Load(Case(name, JSON).request(peer), connections=1, seconds=_LATENCY_SECONDS)
            found[name].append(load.result().p50_ms)
    return found


def _latency_figures(latency: dict[str, list[float]]) -> list[Figure]:
    found = []
    for name, rounds in latency.items():
        if name == "direct":
            found.append(Figure("JSON, one connection, p50: direct", f"{median(rounds):.3f} ms", ""))
            continue
        added = median(one - other for one, other in zip(rounds, latency["direct"], strict=True))
        goal = "≤ 0.45 ms" if name == "ours" else ""
        found.append(Figure(f"JSON, one connection, p50 over direct: {name}", f"{added:.3f} ms", goal))
    return found


# Where the time goes


def _profile(bench: Bench, options: Options) -> None:
    """py-spy's stacks of our gateway under each workload: a flame graph (SVG) and raw ones, the heaviest printed."""
    assert bench.ours is not None, "--profile looks at ours: name it in --peers"
    assert options.profile is not None
    program = peers.environment("tools", "py-spy") / "py-spy"
    options.profile.mkdir(parents=True, exist_ok=True)
    for workload in options.workloads:
        for kind, suffix in (("raw", "txt"), ("flamegraph", "svg")):
            target = options.profile / f"{_slug(workload)}.{suffix}"
            load = Case("ours", workload).load(bench.ours, options.seconds + 2)
            command = [program, "record", "--pid", str(bench.ours.busiest), "--duration", f"{options.seconds:.0f}"]
            options_of_format = ["--format", kind, "--output", str(target), "--rate", "500", "--native"]
            subprocess.run([*map(str, command), *options_of_format], check=True, stdout=subprocess.DEVNULL)
            load.result()
        _heaviest(options.profile / f"{_slug(workload)}.txt", workload)


def _slug(workload: str) -> str:
    return next(slug for slug, name in _WORKLOADS.items() if name == workload)


def _heaviest(raw: Path, workload: str, count: int = 25) -> None:
    """The functions with most samples of their own, and with most beneath them."""
    alone: dict[str, int] = defaultdict(int)
    beneath: dict[str, int] = defaultdict(int)
    total = 0
    for line in raw.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        total += int(samples)
        alone[frames[-1]] += int(samples)
        for frame in set(frames):
            beneath[frame] += int(samples)
    for title, found in (("alone", alone), ("with what they call", beneath)):
        print(f"{workload}, share of samples, {title}:")
        for name, share in sorted(found.items(), key=lambda item: -item[1])[:count]:
            print(f"  {share / total:6.1%}  {name}")


if __name__ == "__main__":
    main()
