"""`python -m workers.watch`."""

from __future__ import annotations

import os
import signal
import threading

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "freehold.config.settings.production")
django.setup(set_prefix=False)

from freehold.common import env, liveness, logging  # noqa: E402 - Django must be set up first
from freehold.operations.metrics import metrics_serve  # noqa: E402
from workers.watch.clusters import ClusterWatches  # noqa: E402

TICK_SECONDS = 0.25


def main() -> None:
    """Runs until SIGTERM."""
    logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    end_metrics = metrics_serve()
    watches = ClusterWatches()
    while not stop.wait(TICK_SECONDS):
        liveness.touch()
        watches.tick()
    watches.stop()
    end_metrics()


main()
