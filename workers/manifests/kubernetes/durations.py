"""How long the steps of a replica may take, sized to its model. All in seconds."""

from __future__ import annotations

from freehold.fleet.cluster_settings import Timing

STARTUP_PERIOD = 10
LIVENESS_PERIOD = 15
KILL_AFTER = 30  # of grace, after vLLM's own --shutdown-timeout


def start(timing: Timing, model_bytes: int) -> int:
    """From the engine's start to its first answer."""
    return timing.start_base + _ceil(model_bytes, timing.load_bytes_per_second)


def rollout(timing: Timing, model_bytes: int, *, min_ready: int) -> int:
    """From a replica's creation to its being available: image, weights, engine. Then a Deployment says it is stuck."""
    fetch = _ceil(model_bytes, timing.fetch_bytes_per_second)
    return timing.pull + fetch + start(timing, model_bytes) + min_ready + STARTUP_PERIOD


def pause(timing: Timing, *, follows: bool) -> int:
    """From a pod's end being asked for to SIGTERM; 0 for no pause (Kubernetes before 1.33 takes no sleep of 0).

    Gateways follow the routes meanwhile. What follows a leader waits until that has ended its streams, which need it.
    """
    return timing.withdraw + (timing.shutdown if follows else 0)


def grace(timing: Timing) -> int:
    """From a pod's end being asked for to SIGKILL: routes are withdrawn, streams end, the process ends."""
    return timing.withdraw + timing.shutdown + KILL_AFTER


def periods(seconds: int, period: int) -> int:
    """How many probes of one `period` cover `seconds`."""
    return max(1, _ceil(seconds, period))


def _ceil(amount: int, rate: int) -> int:
    return -(-amount // rate)
