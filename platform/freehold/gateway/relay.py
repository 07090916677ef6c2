"""One request between a client and a replica: admission, attempts, deadlines, back-pressure, hang-ups, and exactly one
settlement.

Made by app.py once the body is read and the route is known. It is both the client connection's Job and the upstream
connection's Listener; all of it runs as callbacks on the event loop, in this order: `start` asks admission, `open`
takes a slot and a place in the journal (app.py does that for all requests of one turn together), `go` forwards or
waits.

Retries: only while nothing of the answer has gone to the client, on a failed connection or 502, 503, 504, at most
RETRIES times, on another replica where there is one, within the retry budget. A request that has broken a fresh
connection or a stream may be what broke them: it is made again once only, so that it cannot take one replica down after
the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from freehold.common.ids import uuid7_hex
from freehold.common.logging import get_logger
from freehold.gateway import auth
from freehold.gateway.admission.ask import Ask
from freehold.gateway.errors import ApiError, Shape, frame
from freehold.gateway.exchange import Listener
from freehold.gateway.meter import Outcome
from freehold.gateway.mistakes import told
from freehold.gateway.recount import recount
from freehold.gateway.routing.prefix import prefix_key
from freehold.gateway.surface import answers, bodies
from freehold.gateway.surface.sse import STREAMS, Stream
from freehold.gateway.waiting import is_hopeless

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.admission.admission import Admission
    from freehold.gateway.admission.ticket import Ticket
    from freehold.gateway.auth import Caller
    from freehold.gateway.http1 import Connection
    from freehold.gateway.meter import Bill, Meter
    from freehold.gateway.routing.prefix import Prefix
    from freehold.gateway.routing.router import Router
    from freehold.gateway.settings import Settings
    from freehold.gateway.surface.bodies import Call, Surface
    from freehold.gateway.upstream import Pool, Upstream
    from freehold.gateway.waiting import WaitingRoom
    from freehold.wire.follow import Snapshot
    from freehold.wire.records import ReplicaRecord, RouteRecord

log = get_logger(__name__)

RETRIES: Final = 2
_RETRIED: Final = frozenset({502, 503, 504})
_STALE_SECONDS: Final = 0.1  # within which a kept connection that had been closed by the engine shows itself
_PAUSE_SECONDS: Final = 0.1  # before a replica that has just failed is tried again
_COMMENT_SECONDS: Final = 5.0  # a stream that waits for a replica hears of it so often
_NEVER: Final = float("inf")
_LARGEST_ERROR: Final = 1024 * 1024
_EVENTS: Final = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"


class Core:
    """What all requests share.

    Attributes:
        admit: takes an admitted request; calls its `open` and `go` by the end of the loop's turn.
        report: called once with (relay, HTTP status) when it is over, for the access log and the metrics.
    """

    __slots__ = (
        "admission", "admit", "loop", "meter", "pool", "report", "router", "settings", "snapshot", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        snapshot: Snapshot,
        pool: Pool,
        router: Router,
        meter: Meter,
        admission: Admission,
        waiting: WaitingRoom,
        admit: Callable[[Relay], None],
        report: Callable[[Relay, int], None],
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.snapshot = snapshot
        self.pool = pool
        self.router = router
        self.meter = meter
        self.admission = admission
        self.waiting = waiting
        self.admit = admit
        self.report = report


class Relay(Listener):
    """A request under way.

    Attributes:
        event: 32 hex digits, the request's id for client, engine and bill.
        bill: None until it is open.
        outcome: None until it is over.
        replica: id of the replica that answered, or was tried last.
        headers: lines that every answer carries.
    """

    # Most requests need none of these changed.
    _ticket: Ticket | None = None
    _body = b""
    _key: Prefix | None = None
    _upstream: Upstream | None = None
    _connecting: asyncio.Task[None] | None = None
    _tried: tuple[str, ...] = ()
    _fresh = False  # the connection was made for this attempt
    _sent_at = 0.0
    _stale = False  # a kept connection has turned out to be dead once
    _forwarded = False  # an engine has the request, or had it when the client hung up
    _reached = False  # an engine has ever had it
    _broken = 0  # attempts that the request itself may have broken
    _active: ReplicaRecord | None = None  # counted as outstanding
    _work = 0  # bytes of the prompt that the replica has to compute before it answers
    _held = False
    _flows = False  # something of the engine's answer has gone to the client
    _began = False  # the head of a stream has gone to the client
    _commented = 0.0
    _status = 0
    _stream: Stream | None = None
    _size = 0
    _alive = False  # the engine has sent something since the last look at the deadline
    _deadline = _NEVER
    _end = _NEVER
    bill: Bill | None = None
    outcome: Outcome | None = None
    error: ApiError | None = None
    replica = ""

    def __init__(
        self, core: Core, connection: Connection, caller: Caller, surface: Surface, call: Call, route: RouteRecord
    ) -> None:
        self._core = core
        self._connection = connection
        self._loop = core.loop
        self._pieces: list[bytes] = []
        self.caller = caller
        self.surface = surface
        self.call = call
        self.route = route
        self.event = uuid7_hex()
        self._id = self.headers = b"x-request-id: " + self.event.encode() + b"\r\n"
        if surface.shape is Shape.ANTHROPIC:
            self.headers += self._id[2:]

    # Admission

    def start(self) -> None:
        """Asks whether the request may go ahead."""
        self._connection.job = self
        call, route = self.call, self.route
        ask = Ask(
            caller=self.caller,
            route=route,
            model=call.model,
            prompt=call.prompt_bound(route.max_model_len) if self.surface.billed else 0,
            outputs=call.outputs,
            max_tokens=call.max_tokens,
            default_max_tokens=call.default_max_tokens,
        )
        self._core.admission.reserve(ask, self._decided)

    def _decided(self, decision: Ticket | ApiError) -> None:
        try:
            self._take(decision)
        except Exception as mistake:  # noqa: BLE001 - whatever it is, the client waits for an answer
            self.fail(mistake)

    def _take(self, decision: Ticket | ApiError) -> None:
        if isinstance(decision, ApiError):
            if self.outcome is None:
                self._answer_error(decision)
            return
        self._ticket = decision
        if decision.headers:
            self.headers += decision.headers
        if self.outcome is not None:
            self._core.admission.abandon(decision)  # the client has hung up meanwhile
        else:
            self._core.admit(self)

    def open(self) -> None:
        """Takes a slot and a place in the journal. Raises ApiError 503. Nothing to do where the client has hung up."""
        if self.outcome is None:
            self.bill = self._core.meter.open(
                self.event,
                self.caller,
                self.route,
                model=self.call.model,
                path=self.surface.path,
                choices=max(self.call.outputs, 1),
            )

    def go(self) -> None:
        """Forwards the request, or waits until a replica is ready."""
        if self.outcome is not None or self._ticket is None:
            return
        call = self.call
        self._body = bodies.encode(
            call,
            served_model_name=self.route.served_model_name,
            cache_salt=self.caller.tenant.cache_salt,
            max_tokens=self._ticket.max_tokens,
        )
        call.forget()
        self._end = self._loop.time() + self._core.settings.total_seconds
        current = self._core.snapshot.routes.get(call.model)
        if current is not None and current is not self.route:
            self._take_route(current)  # it has changed while the reservation was made
        if self.route.replicas:
            self._attempt()
        else:
            self._wait()

    def refuse(self, error: ApiError) -> None:
        """Ends the request before it was forwarded."""
        if self.outcome is None:
            self._answer_error(error)

    def fail(self, error: Exception) -> None:
        """Ends the request after a mistake of ours."""
        log.error("request_failed", request=self.event, **told(error))
        if self.outcome is None:
            self._drop_upstream()
            self._leave_replica(failed=None)
            self._answer_error(ApiError(500, "The gateway has failed. Try again.", code="gateway_failed"))
        elif self._connection.job is self:
            self._connection.cut()  # it is over, and was to be answered when this happened

    # Waiting for a replica

    def _wait(self) -> None:
        if not self._core.waiting.enter(self):
            self._answer_error(self._not_ready())
            return
        settings = self._core.settings
        now = self._commented = self._loop.time()
        self._held = True
        self._deadline = now + (settings.hold_seconds if self.call.stream else settings.hold_answer_seconds)

    def wake(self) -> None:
        """The routes have changed: perhaps a replica is ready, or none will ever be."""
        route = self._core.snapshot.routes.get(self.call.model)
        refusal = auth.barred(self._core.snapshot, self.caller, self.call.model)
        if refusal is not None:
            self._leave_room()
            self._answer_error(refusal)
        elif route is None or route.endpoint != self.route.endpoint or is_hopeless(route):
            self._leave_room()
            self._answer_error(self._not_ready())
        elif route.replicas:
            self._leave_room()
            self._take_route(route)
            self._attempt()

    def _leave_room(self) -> None:
        if self._held:
            self._held = False
            self._deadline = _NEVER
            self._core.waiting.leave(self)

    def _take_route(self, route: RouteRecord) -> None:
        """Replicas come and go while a request waits or is tried again."""
        if route.endpoint != self.route.endpoint or route.served_model_name != self.route.served_model_name:
            return
        if route.generation != self.route.generation and self.bill is not None:
            self.bill.rebase(route)
        self.route = route

    def _not_ready(self) -> ApiError:
        return ApiError(
            503,
            f"The model `{self.call.model}` has no ready replica; its endpoint's phase is {self.route.phase}. "
            "Try again shortly.",
            code="model_not_ready",
            retry_after=5,
        )

    def _comment(self, now: float) -> None:
        """Keeps a stream's client from giving up. Commits the answer to 200."""
        if now - self._commented >= _COMMENT_SECONDS:
            self._commented = now
            self._begin()
            self._connection.write(b": waiting for a replica to be ready\n\n")

    # Attempts

    def _attempt(self) -> None:
        if self.outcome is not None:
            return  # the client hung up during a pause
        core = self._core
        replicas = self.route.replicas
        if len(replicas) == 1:
            replica = replicas[0]
        else:
            if self._key is None:
                self._key = prefix_key(self.caller.key.tenant, self.route.adapter, self.call.prefix)
            replica = core.router.choose(self.route, self._key, self._tried)
        self._tried = (*self._tried, replica.id)
        self._active = replica
        self.replica = replica.id
        self._work = core.router.begin(replica.id)
        self._status = 0
        upstream = None if self._stale else core.pool.take(replica)
        if upstream is not None:
            self._forward(upstream, fresh=False)
        else:
            self._fresh = True
            self._connecting = self._loop.create_task(self._connect(replica))

    async def _connect(self, replica: ReplicaRecord) -> None:
        try:
            upstream = await self._core.pool.connect(replica, self.route.served_model_name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client waits for an answer
            self._connecting = None
            self._attempt_failed(f"cannot connect: {error!r}")
            return
        self._connecting = None
        try:
            self._forward(upstream, fresh=True)
        except Exception as mistake:  # noqa: BLE001 - as above
            self.fail(mistake)

    def _forward(self, upstream: Upstream, *, fresh: bool) -> None:
        if self.outcome is not None:
            self._core.pool.give_back(upstream)
            return
        self._upstream = upstream
        self._fresh = fresh
        self._forwarded = self._reached = True
        settings = self._core.settings
        seconds = settings.first_token_seconds if self.call.stream else settings.answer_seconds
        now = self._sent_at = self._loop.time()
        self._deadline = now + seconds
        upstream.send(
            self,
            b"".join(
                (
                    self.surface.begin,
                    upstream.authority,
                    b"\r\ncontent-type: application/json\r\n",
                    self._id,
                    b"content-length: ",
                    str(len(self._body)).encode(),
                    b"\r\n\r\n",
                    self._body,
                )
            ),
        )

    def _leave_replica(self, *, failed: bool | None) -> None:
        if self._active is not None:
            self._core.router.finish(self._active.id, failed=failed, work=self._work)
            self._active = None
            self._work = 0

    def _attempt_broken(self, reason: str) -> None:
        """The engine had the request and did not come to an answer. A kept connection may have been dead before: that
        is nobody's failure, shows at once, and happens to a request once, which then gets a connection of its own."""
        self._stream = None
        late = self._loop.time() - self._sent_at > _STALE_SECONDS
        if self._fresh or self._status or self._stale or late:
            self._broken += 1
            self._attempt_failed(reason)
        else:
            self._stale = True
            self._attempt_failed(reason, stale=True)

    def _attempt_failed(self, reason: str, answer: ApiError | None = None, *, stale: bool = False) -> None:
        """Nothing has gone to the client: another attempt, or an answer."""
        self._drop_upstream()
        self._leave_replica(failed=None if stale else True)
        self._pieces, self._size = [], 0
        self._deadline = _NEVER
        if stale:
            self._tried = self._tried[:-1]
        if len(self._tried) <= RETRIES and self._broken < 2 and (stale or self._core.router.retry_allowed()):
            log.info("attempt_failed", request=self.event, replica=self.replica, reason=reason[:200])
            refusal = auth.barred(self._core.snapshot, self.caller, self.call.model)
            if refusal is not None:
                self._answer_error(refusal)
                return
            current = self._core.snapshot.routes.get(self.call.model)
            if current is not None and current.replicas:
                self._take_route(current)
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

    def upstream_head(self, status: int) -> None:
        """The engine has begun to answer."""
        self._status = status
        if status == 200 and self.call.stream and self.bill is not None:
            self._stream = STREAMS[self.surface.shape](self.call, self.route.served_model_name, self.bill)

    def upstream_data(self, data: bytes) -> None:
        """A part of the engine's answer."""
        if self.outcome is not None:
            return
        stream = self._stream
        if stream is None:
            self._size += len(data)
            if self._size > (self._core.settings.max_answer if self._status == 200 else _LARGEST_ERROR):
                self._drop_upstream()
                self._leave_replica(failed=False)
                self._answer_error(ApiError(502, "The engine's answer is too large.", code="engine_failed"))
                return
            self._pieces.append(data)
            return
        ready = stream.feed(data)
        self._alive = True
        if self._flows and stream.failure is None and not stream.done:
            if ready:
                self._connection.write(ready)
            return
        if stream.failure is not None:
            if not self._answered and ready.count(b"\n\n") == 1:
                self._attempt_broken(stream.failure)
                return
            self._write(ready)
            self._end_stream(Outcome.UPSTREAM_ERROR)
            return
        if ready:
            self._write(ready)
        if stream.done:
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
            self._leave_replica(failed=self._status >= 500)
            self._answer_error(self._engine_error())
        else:
            self._answer()

    def upstream_lost(self, reason: str) -> None:
        """The connection to the engine broke."""
        self._upstream = None
        if self.outcome is not None:
            return
        if self._stream is None or (not self._answered and not self._stream.done):
            self._attempt_broken(reason)
        else:
            self._finish_stream(self._stream)

    # Answers

    @property
    def _answered(self) -> bool:
        return self.bill is not None and self.bill.answered

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self._connection.begin(_EVENTS + self.headers)

    def _write(self, data: bytes) -> None:
        bill = self.bill
        if bill is not None and not bill.answered:
            self._begin()
            bill.relayed()
            self._flows = True
            stream = self._stream
            if stream is not None and stream.exact and stream.prompt_known:
                self._body = self.call.prefix = b""  # neither tried again nor counted afterwards
            if self._work and self._active is not None:
                self._core.router.answering(self._active.id, self._work)
                self._work = 0
        self._connection.write(data)

    def _finish_stream(self, stream: Stream) -> None:
        if not stream.done and not self._answered:
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
        pieces, self._pieces = self._pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        bill = self.bill
        if bill is not None and self.surface.billed:
            try:
                body = answers.take(self.surface.shape, body, self.route.served_model_name, self.call.model, bill)
            except ApiError as error:
                self._leave_replica(failed=True)
                self._answer_error(error)
                return
            bill.relayed()
        self._leave_replica(failed=False)
        self._over(Outcome.OK, 200)
        self._connection.respond(200, body, self.headers)

    def _answer_error(self, error: ApiError) -> None:
        self.error = error
        self._over(Outcome.UPSTREAM_ERROR if error.status >= 500 else Outcome.REFUSED, error.status)
        if self._began:
            self._connection.write(frame(self.surface.shape, error.message, error.code or "engine_failed"))
            self._connection.end()
        else:
            self._connection.respond_error(error, self.surface.shape, self.headers)

    # Settlement

    def _over(self, outcome: Outcome, status: int) -> None:
        """Settles before the last bytes go out: whoever has an answer was billed for it."""
        self.outcome = outcome
        self._deadline = self._end = _NEVER
        self._leave_room()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._unsure(outcome) and self._recount(outcome, status):
            return
        self._settle(outcome, status)

    def _unsure(self, outcome: Outcome) -> bool:
        """Whether the engine had the request and has not said what it came to."""
        bill, stream = self.bill, self._stream
        if bill is None or not self.surface.billed or not self._forwarded:
            return False
        if stream is not None and bill.answered:
            return not (stream.exact and stream.prompt_known)
        return outcome is Outcome.CLIENT_CLOSED

    def _recount(self, outcome: Outcome, status: int) -> bool:
        bill = self.bill
        return bill is not None and recount(
            pool=self._core.pool,
            route=self.route,
            guess=self.call.guess(self.route.max_model_len),
            most=self.call.prompt_bound(self.route.max_model_len),
            replica=self.replica,
            surface=self.surface,
            body=self._body,
            stream=self._stream if bill.answered else None,
            bill=bill,
            done=lambda: self._settle(outcome, status),
        )

    def _settle(self, outcome: Outcome, status: int) -> None:
        bill, ticket = self.bill, self._ticket
        if bill is not None:
            bill.settle(outcome, self.replica)
        if ticket is not None:
            if bill is not None and self._reached:
                self._core.admission.settle(ticket, bill.settled, bill.sequence)
            else:
                self._core.admission.abandon(ticket)
            self._ticket = None
        self._body = b""
        self._core.report(self, status)

    # Job

    def client_lost(self) -> None:
        """The client hung up or was cut off: the engine is told at once."""
        if self.outcome is not None:
            return
        self._forwarded = self._upstream is not None
        self._drop_upstream()
        self._leave_replica(failed=None)
        self._over(Outcome.CLIENT_CLOSED, 200 if self._answered else 499)

    def client_blocked(self) -> None:
        """The client reads too slowly: the engine's bytes wait in the kernel, not here."""
        if self._upstream is not None:
            self._upstream.pause()

    def client_flowing(self) -> None:
        """The client reads on."""
        if self._upstream is not None:
            self._upstream.resume()
            self._alive = True

    def check(self, now: float) -> None:
        """Looks at the deadlines: for the first token, between tokens, for a whole answer, for a replica, and in
        all."""
        if self.outcome is not None:
            return
        if self._alive:
            self._alive = False
            self._deadline = now + self._core.settings.between_tokens_seconds
        if now <= self._deadline and now <= self._end:
            if self._held and self.call.stream:
                self._comment(now)
            return
        if self._held:
            self._answer_error(self._not_ready())
        elif self._answered and self._stream is not None:
            self._write(self._stream.fail("The engine has sent nothing for too long. What was received is incomplete."))
            self._end_stream(Outcome.UPSTREAM_ERROR)
        else:
            self._drop_upstream()
            self._leave_replica(failed=True)
            self._answer_error(ApiError(504, "The engine has not answered in time. Try again.", code="engine_timeout"))

    def cut(self) -> None:
        """Ends the request because the gateway stops."""
        if self.outcome is not None:
            return
        if self._answered and self._stream is not None:
            self._write(self._stream.fail("The gateway is stopping. What was received is incomplete; try again."))
            self._end_stream(Outcome.UPSTREAM_ERROR)
        else:
            self._drop_upstream()
            self._leave_replica(failed=False)
            self._answer_error(ApiError(503, "The gateway is stopping. Try again.", code="stopping", retry_after=1))
