"""One request between a client and a replica: attempts, deadlines, back-pressure, hang-ups, and exactly one settlement.

Made by app.py once a request is admitted and opened in the journal. It is both the client connection's Job and the
upstream connection's Listener; all of it runs as callbacks on the event loop.

Retries: only while nothing of the answer has gone to the client, on a failed connection or 502, 503, 504, at most
RETRIES times, on another replica where there is one. A request that has broken a fresh connection or a stream may be
what broke them: it is made again once only, so that it cannot take one replica down after the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from freehold.common.logging import get_logger
from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.meter import Outcome
from freehold.gateway.surface import answers
from freehold.gateway.surface.sse import STREAMS, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.http1 import Connection
    from freehold.gateway.meter import Bill
    from freehold.gateway.settings import Settings
    from freehold.gateway.surface.bodies import Call, Surface
    from freehold.gateway.upstream import Pool, Upstream
    from freehold.wire.records import ReplicaRecord, RouteRecord

log = get_logger(__name__)

RETRIES = 2
_RETRIED = frozenset({502, 503, 504})
_PAUSE_SECONDS = 0.1  # before a replica that has just failed is tried again
_NEVER = float("inf")
_LARGEST_ERROR = 1024 * 1024


class Relay:
    """A request under way.

    Args:
        report: called once with (relay, HTTP status) when it is over, for the access log and the metrics.

    Attributes:
        outcome: None until it is over.
        replica: id of the replica that answered, or was tried last.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        pool: Pool,
        settings: Settings,
        surface: Surface,
        call: Call,
        route: RouteRecord,
        bill: Bill,
        body: bytes,
        report: Callable[[Relay, int], None],
    ) -> None:
        self._connection = connection
        self._pool = pool
        self._settings = settings
        self._body = body
        self._report = report
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tried: list[str] = []
        self._fresh = False  # the connection was made for this attempt
        self._broken = 0  # attempts that the request itself may have broken
        self._active: ReplicaRecord | None = None  # counted as outstanding
        self._status = 0
        self._stream: Stream | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._deadline = _NEVER
        self._loop = asyncio.get_running_loop()
        self.surface = surface
        self.call = call
        self.route = route
        self.bill = bill
        self.outcome: Outcome | None = None
        self.replica = ""
        self.headers = b"x-request-id: %s\r\n" % bill.event.encode()
        if surface.shape is Shape.ANTHROPIC:
            self.headers += b"request-id: %s\r\n" % bill.event.encode()

    def start(self) -> None:
        """Makes the first attempt."""
        self._connection.job = self
        self._attempt()

    # Attempts

    def _attempt(self) -> None:
        if self.outcome is not None:
            return  # the client hung up during a pause
        replica = self._pool.choose(self.route.replicas, self._tried)
        self._tried.append(replica.id)
        self._active = replica
        self.replica = replica.id
        self._pool.begin(replica.id)
        self._status = 0
        self._pieces, self._size = [], 0
        upstream = self._pool.take((replica.host, replica.port))
        if upstream is not None:
            self._forward(upstream, replica, fresh=False)
        else:
            self._connecting = self._loop.create_task(self._connect(replica))

    async def _connect(self, replica: ReplicaRecord) -> None:
        try:
            upstream = await self._pool.connect((replica.host, replica.port))
        except (OSError, TimeoutError) as error:
            self._connecting = None
            self._attempt_failed(f"cannot connect: {error!r}")
            return
        self._connecting = None
        self._forward(upstream, replica, fresh=True)

    def _forward(self, upstream: Upstream, replica: ReplicaRecord, *, fresh: bool) -> None:
        if self.outcome is not None:
            self._pool.give_back(upstream, (replica.host, replica.port))
            return
        self._upstream = upstream
        self._fresh = fresh
        settings = self._settings
        seconds = settings.first_token_seconds if self.call.stream else settings.answer_seconds
        self._deadline = self._loop.time() + seconds
        head = b"POST %s HTTP/1.1\r\nhost: %s:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n" % (
            self.surface.path.encode(),
            (f"[{replica.host}]" if ":" in replica.host else replica.host).encode(),
            replica.port,
            len(self._body),
            b"x-request-id: %s\r\n" % self.bill.event.encode(),
        )
        upstream.send(self, head + self._body)

    def _leave_replica(self, *, failed: bool) -> None:
        if self._active is not None:
            self._pool.finish(self._active.id, failed=failed)
            self._active = None

    def _attempt_broken(self, reason: str) -> None:
        """The engine had the request and did not come to an answer. A kept connection may have been closed before."""
        self._stream = None
        if self._fresh or self._status:
            self._broken += 1
        self._attempt_failed(reason)

    def _attempt_failed(self, reason: str, answer: ApiError | None = None) -> None:
        """Nothing has gone to the client: another attempt, or an answer."""
        self._drop_upstream()
        self._leave_replica(failed=True)
        if len(self._tried) <= RETRIES and self._broken < 2:
            log.info("attempt_failed", request=self.bill.event, replica=self.replica, reason=reason[:200])
            if all(replica.id in self._tried for replica in self.route.replicas):
                self._loop.call_later(_PAUSE_SECONDS, self._attempt)
            else:
                self._attempt()
            return
        message = "No replica of the model can be reached. Try again shortly."
        self._answer_error(answer or ApiError(503, message, code="engine_unreachable", retry_after=5))

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    # Listener

    def upstream_head(self, status: int, event_stream: bool) -> None:
        """The engine has begun to answer."""
        if self.outcome is not None:
            return
        self._status = status
        if status == 200 and self.call.stream and event_stream:
            self._stream = STREAMS[self.surface.shape](self.call, self.route.served_model_name, self.bill)

    def upstream_data(self, data: bytes) -> None:
        """A part of the engine's answer."""
        if self.outcome is not None:
            return
        stream = self._stream
        if stream is None:
            self._size += len(data)
            if self._size > (self._settings.max_answer if self._status == 200 else _LARGEST_ERROR):
                self._drop_upstream()
                self._leave_replica(failed=False)
                self._answer_error(ApiError(502, "The engine's answer is too large.", code="engine_failed"))
                return
            self._pieces.append(data)
            return
        ready = stream.feed(data)
        self._deadline = self._loop.time() + self._settings.between_tokens_seconds
        if stream.failure is not None and not self.bill.answered and ready.count(b"\n\n") == 1:
            self._attempt_broken(stream.failure)
            return
        if ready:
            self._write(ready)
        if stream.failure is not None:
            self._end_stream(Outcome.UPSTREAM_ERROR)
        elif stream.done:
            # SDKs close as soon as they have read the end, so it is settled here. The connection's last bytes come by
            # themselves and send it back to the pool; they could not if a slow client had made us pause it.
            if self._upstream is not None:
                self._upstream.resume()
            self._upstream = None
            self._end_stream(Outcome.OK)

    def upstream_complete(self) -> None:
        """The engine's answer is complete."""
        self._upstream = None
        if self.outcome is not None:
            return
        if self._stream is not None:
            self._finish_stream(self._stream)
        elif self._status in _RETRIED:
            self._attempt_failed(f"HTTP {self._status}", self._engine_error())
        elif self._status != 200:
            self._leave_replica(failed=False)
            self._answer_error(self._engine_error())
        else:
            self._answer()

    def upstream_lost(self, reason: str) -> None:
        """The connection to the engine broke."""
        self._upstream = None
        if self.outcome is not None:
            return
        if self._stream is None or (not self.bill.answered and not self._stream.done):
            self._attempt_broken(reason)
        else:
            self._finish_stream(self._stream)

    # Answers

    def _write(self, data: bytes) -> None:
        if not self.bill.answered:
            self._connection.begin(b"cache-control: no-cache\r\nx-accel-buffering: no\r\n" + self.headers)
            self.bill.relayed()
        self._connection.write(data)

    def _finish_stream(self, stream: Stream) -> None:
        if not stream.done and not self.bill.answered:
            self._attempt_broken("the engine's stream was empty")
            return
        tail = stream.finish()
        if tail:
            self._write(tail)
        self._end_stream(Outcome.OK if stream.done else Outcome.UPSTREAM_ERROR)

    def _end_stream(self, outcome: Outcome) -> None:
        self._drop_upstream()
        self._leave_replica(failed=outcome is Outcome.UPSTREAM_ERROR)
        self._over(outcome, 200)
        self._connection.end()

    def _engine_error(self) -> ApiError:
        return answers.engine_error(self._status, b"".join(self._pieces), self.route.served_model_name, self.call.model)

    def _answer(self) -> None:
        body = b"".join(self._pieces)
        self._pieces = []
        self._leave_replica(failed=False)
        try:
            answers.count(self.surface.shape, body, self.bill)
        except ApiError as error:
            self._answer_error(error)
            return
        body = answers.rename(body, self.route.served_model_name, self.call.model)
        self.bill.relayed()
        self._over(Outcome.OK, 200)
        self._connection.respond(200, body, self.headers)

    def _answer_error(self, error: ApiError) -> None:
        self._over(Outcome.UPSTREAM_ERROR if error.status >= 500 else Outcome.REFUSED, error.status)
        self._connection.respond_error(error, self.surface.shape, self.headers)

    def _over(self, outcome: Outcome, status: int) -> None:
        """Settles before the last bytes go out: a client that has its answer finds it in the journal."""
        self._deadline = _NEVER
        self.outcome = outcome
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self.bill.settle(outcome, self.replica)
        self._report(self, status)

    # Job

    def client_lost(self) -> None:
        """The client hung up or was cut off: the engine is told at once."""
        if self.outcome is not None:
            return
        self._drop_upstream()
        self._leave_replica(failed=False)
        self._over(Outcome.CLIENT_CLOSED, 200 if self.bill.answered else 499)

    def client_blocked(self) -> None:
        """The client reads too slowly: the engine's bytes wait in the kernel, not here."""
        if self._upstream is not None:
            self._upstream.pause()

    def client_flowing(self) -> None:
        """The client reads on."""
        if self._upstream is not None:
            self._upstream.resume()
            self._deadline = max(self._deadline, self._loop.time() + self._settings.between_tokens_seconds)

    def check(self, now: float) -> None:
        """Looks at the deadline: for the first token, between tokens, or for a whole answer."""
        if now <= self._deadline or self.outcome is not None:
            return
        if self.bill.answered and self._stream is not None:
            self._write(self._stream.fail("The engine has sent nothing for too long. What was received is incomplete."))
            self._end_stream(Outcome.UPSTREAM_ERROR)
        else:
            self._drop_upstream()
            self._leave_replica(failed=True)
            self._answer_error(ApiError(504, "The engine has not answered in time. Try again.", code="engine_timeout"))

    def cut(self) -> None:
        """Ends the request because the gateway stops."""
        if self.outcome is None and self.bill.answered and self._stream is not None:
            self._write(self._stream.fail("The gateway is stopping. What was received is incomplete; try again."))
            self._end_stream(Outcome.UPSTREAM_ERROR)
        elif self.outcome is None:
            self._drop_upstream()
            self._leave_replica(failed=False)
            self._answer_error(ApiError(503, "The gateway is stopping. Try again.", code="stopping", retry_after=1))
