"""The Celery application: queues and the beat schedule.

Redis carries wake-ups only; the work is rows in PostgreSQL. Tasks are short and acknowledged late, so one that dies
with its worker comes again; doubles are harmless because rows are claimed. (Not named celery.py: that would shadow the
library.)
"""

from __future__ import annotations

import os
from typing import Any

import django
from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "freehold.config.settings.production")
django.setup(set_prefix=False)

from freehold.common import env, logging  # noqa: E402 - Django must be set up first
from freehold.wire import hints  # noqa: E402

app = Celery("freehold", broker=env.text("REDIS_URL"), include=["workers.tasks"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_time_limit=240,
    task_soft_time_limit=200,
    task_default_queue="default",
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_max_memory_per_child=400_000,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 300, "socket_connect_timeout": 5, "socket_timeout": 30},
    beat_max_loop_interval=1,
    beat_schedule={
        "reconcile-due": {"task": "workers.reconcile_due", "schedule": 2.0, "options": {"expires": 10}},
        "drain-usage": {"task": hints.DRAIN_USAGE, "schedule": 1.0, "options": {"expires": 10}},
        "resync-data-plane": {"task": "workers.publish_all", "schedule": 15.0, "options": {"expires": 30}},
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
    },
)


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))
