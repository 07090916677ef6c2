"""The gateway itself: which path leads where, and what is checked in which order before anything is forwarded.

key (401, 403) → body (400) → model (404) → limits and balance (429, 402) → journal (503) → a replica (503) → relay.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec

from freehold.common.logging import get_logger
from freehold.gateway import auth, native, recount
from freehold.gateway.accesslog import AccessLine, AccessLog
from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.metrics import Metrics
from freehold.gateway.mistakes import told
from freehold.gateway.relay import Core, Relay
from freehold.gateway.surface import bodies, models
from freehold.gateway.waiting import WaitingRoom

if TYPE_CHECKING:
    from freehold.gateway.admission.admission import Admission
    from freehold.gateway.auth import Caller
    from freehold.gateway.exchange import Request
    from freehold.gateway.http1 import Connection
    from freehold.gateway.journal import Journal
    from freehold.gateway.meter import Meter
    from freehold.gateway.routing.router import Router
    from freehold.gateway.settings import Settings
    from freehold.gateway.shipper import Shipper
    from freehold.gateway.slots import Slots
    from freehold.gateway.surface.bodies import Surface
    from freehold.gateway.upstream import Pool
    from freehold.wire.follow import Snapshot

log = get_logger(__name__)

_MODELS: Final = "/v1/models"
_COUNT_SECONDS: Final = recount.SECONDS + 0.5
_SURFACES: Final = {surface.path.encode(): surface for surface in bodies.SURFACES.values()}


def _going() -> ApiError:
    return ApiError(503, "This gateway is going out of service. Try again.", code="draining", retry_after=1)


def _old() -> ApiError:
    return ApiError(
        503,
        "The gateway has had no news of keys and models for too long and serves no more until it has. Try again later.",
        code="snapshot_too_old",
        retry_after=30,
    )


def _require_method(request: Request, *methods: str) -> None:
    if request.method.decode() not in methods:
        allow = ", ".join(methods)
        raise ApiError(405, f"This path takes {allow} only.", code="method_not_allowed", allow=allow)


def _shape(surface: Surface | None) -> Shape:
    return surface.shape if surface is not None else Shape.OPENAI


class Gateway:
    """The Service of the public listener.

    Attributes:
        connections: client connections there are.
        draining: on the way out (departure.py): readyz fails, answers ask clients to close their connections.
        refusing: further on the way out: new requests are answered 503.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        snapshot: Snapshot,
        journal: Journal,
        slots: Slots,
        meter: Meter,
        pool: Pool,
        router: Router,
        admission: Admission,
        shipper: Shipper,
        access: AccessLog,
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._journal = journal
        self._slots = slots
        self._meter = meter
        self._pool = pool
        self._shipper = shipper
        self._access = access
        self._admission = admission
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._admitted: list[Relay] = []
        self._waiting = WaitingRoom(snapshot, settings.hold_requests)
        self._core = Core(
            loop=self._loop,
            settings=settings,
            snapshot=snapshot,
            pool=pool,
            router=router,
            meter=meter,
            admission=admission,
            waiting=self._waiting,
            admit=self._admit,
            report=self._report,
        )
        self._outdated = False  # the snapshot is too old to be believed; looked at by the sweeper
        self._look_at_age()
        self.metrics = Metrics()
        self.connections: set[Connection] = set()
        self.draining = False
        self.refusing = False

    # Service

    def screen(self, request: Request) -> tuple[ApiError, Shape] | None:
        """Nobody without a key gets to send a large body."""
        surface = _SURFACES.get(request.path.partition(b"?")[0])
        if surface is None:
            return ApiError(404, "There is no such path.", code="unknown_url"), Shape.OPENAI
        try:
            if self.refusing:
                raise _going()
            self._caller(request)
        except ApiError as error:
            self._note(request, error)
            return error, _shape(surface)
        return None

    def handle(self, connection: Connection, request: Request) -> None:
        """Answers, or starts a relay."""
        path = request.path
        surface = _SURFACES.get(path)
        if surface is None and b"?" in path:
            path = path.partition(b"?")[0]
            surface = _SURFACES.get(path)
        connection.draining = self.draining
        try:
            if self.refusing:
                raise _going()
            if surface is not None:
                if request.method != b"POST":
                    _require_method(request, "POST")
                self._infer(connection, request, surface)
            else:
                self._models(connection, request, unquote(path.decode("latin-1")))
        except ApiError as error:
            self._note(request, error)
            connection.respond_error(error, _shape(surface))

    def _known(self, connection: Connection, request: Request) -> Caller:
        """Who calls. A connection that keeps sending one key is looked up again only after the snapshot has changed."""
        known = connection.known
        if self._outdated:
            raise _old()
        if (
            known is not None
            and known[0] == request.authorization
            and known[1] == self._snapshot.changes
            and not request.api_key
        ):
            return known[2]
        caller = self._caller(request)
        if request.authorization and not request.api_key and caller.key.expires_at is None:
            connection.known = (request.authorization, self._snapshot.changes, caller)
        return caller

    def _caller(self, request: Request) -> Caller:
        if self._outdated:
            raise _old()
        return auth.authenticate(self._snapshot, request.authorization, request.api_key, time.time())

    def _look_at_age(self) -> None:
        snapshot = self._snapshot
        self._outdated = snapshot.loaded and time.time() - snapshot.taken_at > self._settings.snapshot_seconds

    def _infer(self, connection: Connection, request: Request, surface: Surface) -> None:
        caller = self._known(connection, request)
        call = bodies.parse(surface, request.body)
        request.body = b""
        route = auth.resolve(self._snapshot, caller, call.model)
        bodies.require_task(surface, route.task, call.model)
        Relay(self._core, connection, caller, surface, call, route).start()

    def _admit(self, relay: Relay) -> None:
        self._admitted.append(relay)
        if len(self._admitted) == 1:
            self._loop.call_soon(self._open_admitted)

    def _open_admitted(self) -> None:
        """Everything that was admitted in a turn goes into the journal in one write, and is forwarded then."""
        admitted, self._admitted = self._admitted, []
        opened = []
        for relay in admitted:
            try:
                relay.open()
            except ApiError as error:
                relay.refuse(error)
            except Exception as error:  # noqa: BLE001 - one must not take the others of its turn along
                relay.fail(error)
            else:
                opened.append(relay)
        try:
            self._meter.flush()
        except ApiError as error:
            for relay in opened:
                relay.refuse(error)
            return
        for relay in opened:
            try:
                relay.go()
            except Exception as error:  # noqa: BLE001 - as above
                relay.fail(error)

    def _models(self, connection: Connection, request: Request, path: str) -> None:
        if path != _MODELS and not path.startswith(_MODELS + "/"):
            raise ApiError(404, f"Invalid URL ({request.method.decode()} {path[:100]}).", code="unknown_url")
        _require_method(request, "GET", "HEAD")
        caller = self._caller(request)
        if path == _MODELS:
            seen = [item for item in sorted(self._snapshot.routes.items()) if auth.sees(caller, *item)]
            answer: object = models.listing(seen)
        else:
            name = path[len(_MODELS) + 1 :]
            answer = models.describe(name, auth.resolve(self._snapshot, caller, name))
        self._note(request, None, caller)
        connection.respond(200, msgspec.json.encode(answer))

    # Reports

    def _note(self, request: Request, error: ApiError | None, caller: Caller | None = None) -> None:
        """A request that was answered without a replica."""
        status = error.status if error is not None else 200
        path = request.path.partition(b"?")[0]
        known = path.decode() if path in _SURFACES or path == _MODELS.encode() else "other"
        self.metrics.answered(known, status, error.code if error is not None else None)
        line = AccessLine(
            at=time.time(),
            method=request.method.decode(),
            path=path[:200].decode("latin-1"),
            status=status,
            code=error.code if error is not None else None,
        )
        if caller is not None:
            line.tenant, line.key = caller.key.tenant, caller.key.id
        self._access.add(line)

    def _report(self, relay: Relay, status: int) -> None:
        """A relay that is over."""
        caller, bill, error = relay.caller, relay.bill, relay.error
        path = relay.surface.path
        code = error.code if error is not None else None
        outcome = str(relay.outcome) if relay.outcome is not None else ""
        record = bill.settled if bill is not None else None
        self.metrics.answered(path, status, code)
        if bill is not None:
            self.metrics.settled(outcome, record)
        self._access.add(
            AccessLine(
                at=time.time(),
                method="POST",
                path=path,
                status=status,
                request=relay.event,
                tenant=caller.key.tenant,
                key=caller.key.id,
                model=relay.call.model,
                replica=relay.replica,
                outcome=outcome,
                stream=relay.call.stream,
                prompt_tokens=record.prompt_tokens if record is not None else 0,
                completion_tokens=record.completion_tokens if record is not None else 0,
                first_token_ms=record.first_token_ms if record is not None else None,
                duration_ms=record.duration_ms if record is not None else None,
                code=code,
            )
        )

    def unready(self) -> str:
        """Why no requests should come here now; empty where they may."""
        if self.draining:
            return "draining"
        if not self._snapshot.loaded:
            return "no snapshot of keys and routes yet"
        if self._outdated:
            return "the snapshot of keys and routes is too old"
        if not self._journal.healthy:
            return "the journal cannot be written"
        return ""

    @property
    def in_flight(self) -> int:
        """Requests that are open."""
        return self._settings.max_requests - self._slots.free

    def exposition(self) -> bytes:
        """Prometheus metrics."""
        snapshot, journal = self._snapshot, self._journal
        return self.metrics.render(
            {
                "native": native.in_use(),
                "ready": not self.unready(),
                "draining": self.draining,
                "connections": len(self.connections),
                "requests_in_flight": self.in_flight,
                "requests_waiting": len(self._waiting),
                "replicas_ejected": self._router.ejected,
                **self._router.choices,
                "limits_online": self._admission.online,
                "snapshot_age_seconds": time.time() - snapshot.taken_at if snapshot.loaded else -1,
                "keys": len(snapshot.keys),
                "routes": len(snapshot.routes),
                "journal_healthy": journal.healthy,
                "journal_segments": journal.segment_count,
                "journal_sequence": journal.sequence,
                "journal_synced_sequence": journal.synced,
                "shipped_sequence": self._shipper.sent,
                "watermark": journal.watermark,
            }
        )

    # Sweeping and stopping

    async def sweep(self) -> None:
        """Looks at deadlines, disk and log until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            now = loop.time()
            self._look_at_age()
            for connection in list(self.connections):
                try:
                    connection.check(now)
                except Exception as error:  # noqa: BLE001 - a mistake with one client must not end the sweeper
                    log.error("connection_check_failed", **told(error))
                    connection.cut()
            self._pool.sweep(now)
            self._router.sweep(now)
            self._journal.check_space()
            self._meter.give_back()
            self._access.flush()

    async def drain(self) -> None:
        """Lets requests in flight end, for drain_seconds; then cuts them with an error frame. Connections that come
        meanwhile are refused, and not waited for."""
        leaving = set(self.connections)
        for connection in leaving:
            connection.drain(_going())
        deadline = time.monotonic() + self._settings.drain_seconds
        while leaving & self.connections and time.monotonic() < deadline:  # noqa: ASYNC110 - an end of many
            await asyncio.sleep(0.02)
        for connection in leaving & self.connections:
            if isinstance(connection.job, Relay):
                connection.job.cut()
        await asyncio.sleep(0)
        for connection in leaving & self.connections:
            connection.cut()
        # Some whose clients are gone are being counted still (recount.py).
        deadline = time.monotonic() + _COUNT_SECONDS
        while self.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - an end of many
            await asyncio.sleep(0.02)
        self._pool.close()
        self._access.flush()
