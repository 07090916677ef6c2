"""Control plane → workers: "look at this soon". A hint never raises and gives up after 200 ms; the periodic resync is
the guarantee, the hint only makes it fast. Sent by task name: the platform never imports workers.
"""

from __future__ import annotations

from functools import cache

from celery import Celery
from kombu.exceptions import OperationalError

from freehold.common import env
from freehold.common.logging import get_logger

log = get_logger(__name__)

RECONCILE = "workers.reconcile"  # cluster id (text): look at this cluster's due endpoints
CHECK_CLUSTER = "workers.check_cluster"  # cluster id (text): it is new or has changed, see whether it answers
DRAIN_USAGE = "workers.drain_usage"
IMPORT = "workers.import_models"  # an import waits
COLLECT_GARBAGE = "workers.collect_garbage"  # tenant id (text): some of its content is used no more
VERIFY = "workers.verify_contents"  # there is content that nobody has hashed
HEARTBEAT = "workers.heartbeat"  # queue, when it was sent (ISO 8601): proves that the queue is worked off

DEFAULT = "default"
TRANSFERS = "transfers"  # the queue of what takes minutes or hours: imports, verification

_SECONDS = 0.2


@cache
def _sender() -> Celery:
    app = Celery("freehold-hints", broker=env.text("REDIS_URL"), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        broker_connection_retry=False,
        broker_transport_options={
            "socket_connect_timeout": _SECONDS,
            "socket_timeout": _SECONDS,
            "retry_on_timeout": False,
            "max_retries": 0,
        },
    )
    return app


def send(task: str, *arguments: str, queue: str = DEFAULT, expires: float | None = None) -> bool:
    """Sends a hint, worth nothing after `expires` seconds. Returns whether it was handed over; a failure is logged and
    otherwise ignored."""
    try:
        _sender().send_task(task, args=arguments, queue=queue, retry=False, ignore_result=True, expires=expires)
    except (OperationalError, OSError) as error:
        log.warning("hint_lost", task=task, error=str(error))
        return False
    return True
