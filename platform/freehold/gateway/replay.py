"""`python -m freehold.gateway.replay`: ships the journals of a gateway that is gone, such as one scaled away whose
volume is left. Listens on nothing. Takes the gateway's own settings; GATEWAY_ID must be that gateway's, because
metering knows its journals by it. With numbers, only the folders of that name (place.py): a gateway's parent has those
shipped that its processes have left behind.

Killing it at any moment and running it again is harmless, as it is for the gateway itself: orphans are settled once, by
the journal, and metering drops what it has.

Exit codes: 0 when metering has everything, and at once where there is no journal; 1 for settings or a journal that
cannot be read; 3 when GATEWAY_REPLAY_SECONDS have passed or it was told to stop (run it again); 4 when another process
uses the folder. One folder does not hold up the others; of several codes it is the first in the order 1, 4, 3.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop

from freehold.common import env, logging
from freehold.gateway import place, segments
from freehold.gateway.admission.estate import Estate
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Meter
from freehold.gateway.segments import JournalUnreadable
from freehold.gateway.settings import Settings, from_environment
from freehold.gateway.shipper import Shipper
from freehold.gateway.slots import Slots
from freehold.gateway.state import StateInUse, hold
from freehold.wire.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DONE, UNREADABLE, UNFINISHED, IN_USE = 0, 1, 3, 4
_POLL_SECONDS = 0.05

log = logging.get_logger("freehold.gateway.replay")


async def replay(settings: Settings) -> int:
    """Settles what was open and ships until metering has confirmed everything and no balance is held for it any more,
    or replay_seconds have passed, or a signal says stop. Returns how many records are not confirmed (1 where only Redis
    is to be told). The caller holds the folder.

    Raises JournalUnreadable, and OSError where the disk fails or is full.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # No reserve: nothing is admitted here, and the reason for the replay may be that the disk has filled up.
    journal = Journal(settings.state / "journal", segment_bytes=settings.segment_bytes, reserve_bytes=0)
    slots = Slots(settings.state / "slots", settings.max_requests)
    settled = Meter(journal, slots, settings.region).recover()
    slots.close()
    shipper = Shipper(settings.redis_url, journal, settings.gateway_id, settings.resend_seconds)
    log.info(
        "replay_started", gateway=settings.gateway_id, epoch=journal.epoch, settled=settled, records=_unshipped(journal)
    )
    follower = Follower(settings.redis_url, settings.state / place.SNAPSHOT)
    follower.load_from_disk()
    estate = Estate(follower.snapshot, settings, journal)
    tasks = [loop.create_task(work) for work in (journal.run(), shipper.run(), follower.run(), estate.run())]
    deadline = time.monotonic() + settings.replay_seconds
    while not (estate.settled and not _unshipped(journal)) and not stop.is_set() and time.monotonic() < deadline:
        if any(task.done() for task in tasks):
            break
        await asyncio.sleep(_POLL_SECONDS)
    failures = [task.exception() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    journal.shut()
    await shipper.disconnect()
    for failure in failures:
        if failure is not None:
            raise failure
    return _unshipped(journal) or int(not estate.settled)


def _unshipped(journal: Journal) -> int:
    return journal.sequence - journal.watermark


def run(environ: Mapping[str, str] = os.environ, folders: Sequence[int] = ()) -> int:
    """The whole command, for these folders or for all there are. Returns the exit code."""
    try:
        env.text("GATEWAY_ID", environ=environ)  # the gateway's default, its host's name, is not ours
        where = place.place(environ)
        settings = from_environment(environ)
    except env.ConfigurationError as error:
        return _said(UNREADABLE, str(error))
    logging.configure(json=settings.json_log)
    deadline = time.monotonic() + settings.replay_seconds
    codes = set()
    for folder in folders or where.journals():
        own = from_environment(where.environment_of(folder, environ))
        codes.add(_run(replace(own, replay_seconds=max(0.0, deadline - time.monotonic()))))
    return next((code for code in (UNREADABLE, IN_USE, UNFINISHED) if code in codes), DONE)


def _run(settings: Settings) -> int:
    try:
        held = hold(settings.state)
    except StateInUse:
        return _said(IN_USE, f"{settings.state} is in use: its gateway runs, and ships its journal by itself.")
    except OSError as error:
        return _said(UNREADABLE, str(error))
    try:
        if not segments.listing(settings.state / "journal"):
            return DONE
        left = uvloop.run(replay(settings))
    except (JournalUnreadable, OSError) as error:
        return _said(UNREADABLE, str(error))
    finally:
        os.close(held)
    if left:
        return _said(
            UNFINISHED,
            f"{left} records of {settings.gateway_id} are not confirmed by metering yet. They are safe in the journal; "
            "look whether Redis and the workers run, then run this again.",
        )
    log.info("replay_done", gateway=settings.gateway_id)
    return DONE


def _said(code: int, message: str) -> int:
    sys.stderr.write(f"The journal is not replayed: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(run(folders=[int(number) for number in sys.argv[1:]]))
