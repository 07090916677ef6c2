"""The Celery application: queues and the beat schedule.

Redis carries wake-ups only; the work is rows in PostgreSQL. Tasks are short and acknowledged late, so one that dies
with its worker comes again; doubles are harmless because rows are claimed. (Not named celery.py: that would shadow the
library.)
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import django
from celery import Celery, signals
from celery.beat import BeatLazyFunc

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "freehold.config.settings.production")
django.setup(set_prefix=False)

from freehold.common import env, liveness, logging  # noqa: E402 - Django must be set up first
from freehold.operations.queues import BEAT_SECONDS, QUEUES  # noqa: E402
from freehold.wire import hints  # noqa: E402
from workers import broker  # noqa: E402


def _this_moment() -> str:
    return datetime.now(UTC).isoformat()


broker.install()
app = Celery("freehold", broker=env.text("REDIS_URL"), include=["workers.tasks"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_time_limit=240,
    task_soft_time_limit=200,
    task_default_queue=hints.DEFAULT,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_max_memory_per_child=400_000,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # Redis may be away for long; whoever gave up would have to be started again
    broker_transport_options={"visibility_timeout": 300, "socket_connect_timeout": 5, "socket_timeout": 30},
    beat_max_loop_interval=1,
    beat_schedule={
        "reconcile-due": {"task": "workers.reconcile_due", "schedule": 2.0, "options": {"expires": 10}},
        "check-clusters": {"task": "workers.check_clusters", "schedule": 30.0, "options": {"expires": 30}},
        "purge-events": {"task": "workers.purge_events", "schedule": 3600.0, "options": {"expires": 600}},
        "drain-usage": {"task": hints.DRAIN_USAGE, "schedule": 1.0, "options": {"expires": 10}},
        "resync-data-plane": {"task": "workers.publish_all", "schedule": 15.0, "options": {"expires": 30}},
        "money-epoch": {"task": "workers.ensure_money_epoch", "schedule": 5.0, "options": {"expires": 10}},
        "import-models": {
            "task": hints.IMPORT,
            "schedule": 15.0,
            "options": {"expires": 30, "queue": hints.TRANSFERS},
        },
        "verify-contents": {
            "task": hints.VERIFY,
            "schedule": 15.0,
            "options": {"expires": 30, "queue": hints.TRANSFERS},
        },
        "collect-garbage": {"task": hints.COLLECT_GARBAGE, "schedule": 600.0, "options": {"expires": 300}},
        "sweep-storage": {"task": "workers.sweep_storage", "schedule": 6 * 3600.0, "options": {"expires": 600}},
        "post-ledger": {"task": "workers.post_ledger", "schedule": 60.0, "options": {"expires": 60}},
        "usage-partitions": {"task": "workers.ensure_partitions", "schedule": 3600.0, "options": {"expires": 600}},
        "purge-idempotency-records": {
            "task": "workers.purge_idempotency_records",
            "schedule": 3600.0,
            "options": {"expires": 600},
        },
        # Through every queue, so that each proves that somebody works it off. Those that wait in vain pile up no longer
        # than it takes for the queue to be called late.
        **{
            f"heartbeat-{queue.name}": {
                "task": hints.HEARTBEAT,
                "schedule": BEAT_SECONDS,
                "args": (queue.name, BeatLazyFunc(_this_moment)),
                "options": {"expires": queue.silence_seconds, "queue": queue.name},
            }
            for queue in QUEUES
        },
    },
)


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))


@signals.worker_ready.connect
@signals.task_prerun.connect
@signals.task_postrun.connect
def _touch(**_: Any) -> None:
    """A worker lives as long as it is given work: one that is connected and consumes nothing does not count."""
    liveness.touch()


@signals.beat_init.connect
def _watch_beat(**_: Any) -> None:
    """Beat lives as long as it sends, or tries to: while Redis is away a restart would mend nothing."""
    liveness.touch()
    signals.before_task_publish.connect(_touch, weak=False)
