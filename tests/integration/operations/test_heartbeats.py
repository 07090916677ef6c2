"""Heartbeats: what is known of a queue never goes backwards, and silence is called late."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from freehold.operations.choices import QueueState
from freehold.operations.models import QueueHeartbeat
from freehold.operations.queues import QUEUES
from freehold.operations.selectors import QueueStatus, queues_status
from freehold.operations.services import queue_heartbeat_record
from freehold.wire import hints

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def status(*, now: datetime) -> QueueStatus:
    """Of the queue `default`."""
    return next(found for found in queues_status(now=now) if found.queue == hints.DEFAULT)


@pytest.mark.django_db
def test_a_queue_that_nobody_ever_worked_off_says_never() -> None:
    found = queues_status(now=NOON)
    assert [entry.queue for entry in found] == [queue.name for queue in QUEUES]
    assert {entry.state for entry in found} == {QueueState.NEVER}


@pytest.mark.django_db
def test_a_queue_is_healthy_until_it_has_been_silent_for_too_long() -> None:
    queue_heartbeat_record(queue=hints.DEFAULT, sent_at=NOON, consumed_at=at(1), worker="w@1")
    silence = QUEUES[0].silence_seconds
    assert status(now=at(silence)) == QueueStatus(hints.DEFAULT, QueueState.HEALTHY, silence, "w@1")
    assert status(now=at(silence + 1)).state is QueueState.LATE


@pytest.mark.django_db
def test_what_is_known_never_goes_backwards() -> None:
    assert queue_heartbeat_record(queue=hints.DEFAULT, sent_at=at(30), consumed_at=at(31), worker="w@1")
    held_up = queue_heartbeat_record(queue=hints.DEFAULT, sent_at=at(15), consumed_at=at(40), worker="w@2")
    twice = queue_heartbeat_record(queue=hints.DEFAULT, sent_at=at(30), consumed_at=at(41), worker="w@2")
    assert (held_up, twice) == (False, False)
    beat = QueueHeartbeat.objects.get()
    assert (beat.sent_at, beat.consumed_at, beat.worker) == (at(30), at(31), "w@1")
    assert queue_heartbeat_record(queue=hints.DEFAULT, sent_at=at(45), consumed_at=at(20), worker="w@3")
    beat.refresh_from_db()
    assert (beat.sent_at, beat.consumed_at) == (at(45), at(31)), "another machine's clock may be slow"


@pytest.mark.usefixtures("committed_db")
def test_of_many_at_once_the_newest_stays() -> None:
    def record(number: int) -> None:
        queue_heartbeat_record(queue=hints.DEFAULT, sent_at=at(number), consumed_at=at(number), worker=f"w@{number}")
        connection.close()

    threads = [threading.Thread(target=record, args=(number,)) for number in (3, 7, 1, 6, 2, 5, 4, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert QueueHeartbeat.objects.get().sent_at == at(7)
