"""What the broker's library lacks: a worker whose acknowledgement fails goes on afterwards.

Kombu keeps a message that it could not acknowledge among those that a worker works on. With one message for each
process (`worker_prefetch_multiplier`) none is left to ask for another: the worker neither notices that Redis is gone
nor that it came back, and stands still until its liveness probe ends it.
"""

from __future__ import annotations

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """Counts a message as done here even where Redis could not be told.

    There it stays unacknowledged and comes again after `visibility_timeout`, as that of a worker that died; tasks bear
    that.
    """

    def ack(self, delivery_tag: str) -> None:
        """Tells Redis, and frees the place in any case. Raises redis.exceptions.RedisError."""
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """As `ack`; with `requeue` the message goes back to its queue at once."""
        try:
            super().reject(delivery_tag, requeue)
        finally:
            virtual.QoS.ack(self, delivery_tag)


def install() -> None:
    """Has every channel to Redis keep its messages so, whatever the scheme of its address."""
    redis.Channel.QoS = QoS
