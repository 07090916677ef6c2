"""`python -m workers.watch`."""

from __future__ import annotations

import os
import signal
import threading

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "freehold.config.settings.production")
django.setup(set_prefix=False)

from freehold.common import env, logging  # noqa: E402 - Django must be set up first
from workers.watch.local import LocalWatch  # noqa: E402
from workers.watch.logs import LogTails  # noqa: E402

TICK_SECONDS = 0.25


def main() -> None:
    """Runs until SIGTERM."""
    logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch, tails = LocalWatch(), LogTails()
    while not stop.wait(TICK_SECONDS):
        watch.tick()
        tails.tick()


main()
