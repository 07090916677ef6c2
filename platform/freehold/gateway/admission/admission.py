"""May this request go ahead? The one door of the package, called by app.py, relay.py and shipper.py.

All reservations and settlements of one turn of the event loop are one script run (scripts.DECIDE), so that a round trip
costs a busy gateway little for each request. While Redis is away each gateway decides by itself (alone.py, credit.py).

What is in flight and held is kept here as absolute numbers, too. Redis gets differences; whenever it may have missed
some, session.py tells the absolute numbers again.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from freehold.common.logging import get_logger
from freehold.gateway.admission import answers, prices, scripts
from freehold.gateway.admission.alone import Alone
from freehold.gateway.admission.credit import Credit
from freehold.gateway.admission.holdings import Holdings
from freehold.gateway.admission.link import REPLY_SECONDS
from freehold.gateway.admission.plans import Plan, Plans
from freehold.gateway.admission.session import Books, Lease, Session
from freehold.gateway.admission.ticket import Ticket
from freehold.gateway.mistakes import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.admission.ask import Ask
    from freehold.gateway.admission.scripts import Verdict
    from freehold.gateway.errors import ApiError
    from freehold.gateway.journal import Journal
    from freehold.gateway.settings import Settings
    from freehold.wire.follow import Snapshot
    from freehold.wire.usage import UsageRecord

log = get_logger(__name__)

_COMPANY_SECONDS: Final = 0.002  # how long what is given back waits for a reservation to go with
_SNAPSHOT_POLL_SECONDS: Final = 0.02
_FREE: Final = Ticket(None, 0)  # nothing limits, and the body stays as it is


class _Pending:
    """An ask that waits for its verdict. `row` is Plan.row's."""

    __slots__ = ("decided", "plan", "row")

    def __init__(self, plan: Plan, row: list[int], decided: Callable[[Ticket | ApiError], None]) -> None:
        self.plan = plan
        self.row = row
        self.decided = decided

    def tokens(self, verdict: Verdict) -> int:
        """That count against rates: the prompt, and as many for each output as are granted."""
        return self.row[1] + self.row[2] * verdict.max_tokens


class Admission:
    """Limits and balances of one gateway process.

    Args:
        journal: already recovered; what it has unconfirmed is held from the start.
        lease: times of membership.
        clock: Unix nanoseconds, for prices.
    """

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        settings: Settings,
        journal: Journal,
        lease: Lease | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._plans = Plans(snapshot)
        self._holdings = Holdings(snapshot, journal)
        self._credit = Credit(snapshot, settings.state / "outage_credit", settings.max_gateways)
        self._alone = Alone(settings.max_gateways)
        self._session = Session(
            settings.redis_url,
            settings.gateway_id,
            journal,
            lease or Lease(),
            books=self._books,
            confirmed=self._holdings.confirmed,
            joined=self._joined,
            lost=self._lost,
            tick=self._tick,
        )
        self._gateway = settings.gateway_id
        self._asks: list[_Pending] = []
        self._given: dict[Plan, list[int]] = {}  # a change of concurrency; requests and tokens given back
        self._flushing = False  # a flush is on its way in this turn
        self._company: asyncio.TimerHandle | None = None
        self._hope: asyncio.TimerHandle | None = None
        self._hopeful = True  # Redis may answer in time, so asks wait for it
        self._batch = 0
        self._on_credit: dict[str, int] = {}  # tenant → the batch that tells Redis of what was last served on credit
        self._loop = asyncio.get_running_loop()

    @property
    def online(self) -> bool:
        """Whether Redis decides."""
        return self._session.online

    # What app.py and relay.py call

    def reserve(self, ask: Ask, decided: Callable[[Ticket | ApiError], None]) -> None:
        """Calls `decided` exactly once: at once where Redis is not needed or not there, else after the round trip.

        The error is a 429 (a limit), a 402 (the balance) or a 503 (the balance cannot be asked).
        """
        plan = self._plans.of(ask)
        if plan.is_free:
            named = ask.max_tokens or ask.default_max_tokens or not ask.outputs
            decided(_FREE if named or not plan.default else Ticket(None, plan.default))
            return
        if plan.unpriced:
            decided(answers.unpriced())
            return
        if plan.tenant:
            self._holdings.begin(plan.tenant)
        pending = _Pending(plan, plan.row(ask, self._clock() if plan.tenant else 0), decided)
        if self._session.online:
            self._asks.append(pending)
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush)
        elif self._hopeful:
            self._asks.append(pending)
            if self._hope is None:
                self._hope = self._loop.call_later(REPLY_SECONDS, self._give_up)
        else:
            self._decide_alone(pending)

    def settle(self, ticket: Ticket, record: UsageRecord | None, sequence: int) -> None:
        """A request is over. A second time does nothing.

        Args:
            record: what it came to, None where nothing is billed. The journal has it by now.
            sequence: its number there; 0 without a record.
        """
        plan = ticket.plan
        if plan is None:
            if record is not None:
                # Its tenant may have begun to pay from a balance meanwhile.
                self._charge(record.tenant, 0, self._holdings.cost(record), sequence)
            return
        if not ticket.open:
            return
        ticket.open = False
        left, cost = ticket.tokens, 0
        if record is not None:
            left -= record.prompt_tokens + record.completion_tokens
            paid = plan.tenant != ""
            cost = prices.cost(plan.price(record.occurred_at_ns), record) if paid else self._holdings.cost(record)
        self._close(ticket, plan, 0, left)
        self._charge(record.tenant if record is not None else plan.tenant, ticket.nanos, cost, sequence)
        if ticket.on_credit:
            self._credit.give_back(plan.tenant, ticket.nanos - cost)

    def abandon(self, ticket: Ticket) -> None:
        """A request was never forwarded: all of its reservation is given back."""
        plan = ticket.plan
        if plan is None or not ticket.open:
            return
        ticket.open = False
        self._holdings.change(plan.tenant, -ticket.nanos)
        if ticket.on_credit:
            self._credit.give_back(plan.tenant, ticket.nanos)
        self._close(ticket, plan, 1, ticket.tokens)

    def confirmed(self, watermark: int) -> None:
        """The ledger has everything of the journal up to `watermark`, and the published balances are lower by it."""
        self._holdings.confirmed(watermark)
        self._soon()

    async def run(self) -> None:
        """Keeps the membership until cancelled."""
        while not self._snapshot.loaded:  # noqa: ASYNC110 - who pays from a balance is not known before
            await asyncio.sleep(_SNAPSHOT_POLL_SECONDS)
        self._holdings.look_for_accounts()
        await self._session.run()

    async def leave(self) -> None:
        """At the end of the process: concurrency is given back, the lease dropped, the connection closed."""
        self._flush()
        await self._session.leave()
        for timer in (self._company, self._hope):
            if timer is not None:
                timer.cancel()
        self._give_up()
        self._credit.save()

    # Redis decides

    def _flush(self) -> None:
        """Sends what has gathered."""
        self._flushing = False
        link = self._session.link
        if link is None or not self._session.online:
            if self._asks and self._hope is None:
                self._hope = self._loop.call_later(REPLY_SECONDS if self._hopeful else 0, self._give_up)
            return
        while self._asks or self._given or self._holdings.changes:
            asks, self._asks = self._asks[: scripts.BATCH], self._asks[scripts.BATCH :]
            given, self._given = self._given, {}
            money, self._holdings.changes = self._holdings.changes, {}
            plans = {plan: number for number, plan in enumerate(given)}
            for one in asks:
                one.row[0] = plans.setdefault(one.plan, len(plans))
            self._batch += 1
            blob = scripts.encode(
                [
                    self._gateway,
                    self._session.id,
                    [plan.packed for plan in plans],
                    [[plans[plan], *row] for plan, row in given.items()],
                    money,
                    [one.row for one in asks],
                ]
            )
            link.evaluate(scripts.DECIDE, blob, partial(self._replied, self._batch, asks))

    def _replied(self, number: int, asks: list[_Pending], reply: Any) -> None:
        if type(reply) is not bytes:
            self._failed(asks, reply)
            return
        try:
            decided = scripts.decode_decided(reply)
        except msgspec.MsgspecError as error:
            self._failed(asks, error)
            return
        if not decided.known:
            self._asks[:0] = asks  # for after the join, or for when hope is gone
            self._session.forgotten()
            return
        for one, verdict in zip(asks, decided.verdicts, strict=True):
            if verdict.code == scripts.ADMITTED:
                self._admitted(one, verdict, number)
            elif verdict.code == scripts.UNDECIDED:
                self._undecided(one, verdict)
            else:
                self._tell(one, answers.refusal(verdict, one.plan.bounds))

    def _failed(self, asks: list[_Pending], reason: Any) -> None:
        """The link is lost, or Redis cannot run the script: it may be out of memory, or loading."""
        link = self._session.link
        if link is not None and link.alive:
            log.error("admission_refused_by_redis", error=str(reason))
            link.close()
        for one in asks:
            self._decide_alone(one)

    def _admitted(self, one: _Pending, verdict: Verdict, number: int) -> None:
        """Limits and money are taken in Redis by now."""
        tenant = one.plan.tenant
        if tenant:
            self._holdings.reserved(tenant, verdict.nanos)
            if tenant in self._on_credit and number >= self._on_credit[tenant]:
                # The balance that covers this covers all that was served on credit: Redis knew of it.
                del self._on_credit[tenant]
                self._credit.covered(tenant)
        self._tell(one, self._ticket(one, verdict))

    def _undecided(self, one: _Pending, verdict: Verdict) -> None:
        """Limits are taken in Redis; the balance is not known there."""
        self._session.hurry()
        plan, granted = one.plan, one.tokens(verdict)
        if self._spend(one, verdict):
            self._give(plan, 0, 0, granted - one.tokens(verdict))
            self._tell(one, self._ticket(one, verdict, on_credit=True))
        else:
            self._give(plan, -1, 1, granted)
            self._tell(one, answers.outage(answers.headers(verdict)))

    # We decide

    def _decide_alone(self, one: _Pending) -> None:
        """Redis is away."""
        plan = one.plan
        verdict = self._alone.look(plan, one.row, int(self._loop.time() * 1_000))
        if verdict.code != scripts.ADMITTED:
            self._tell(one, answers.refusal(verdict, plan.bounds))
            return
        if plan.tenant and not self._spend(one, verdict):
            self._tell(one, answers.outage(answers.headers(verdict)))
            return
        self._alone.take(plan, one.tokens(verdict), verdict)
        self._give(plan, 1, 0, 0)  # where Redis comes back before it is told absolute numbers
        self._tell(one, self._ticket(one, verdict, alone=True, on_credit=bool(plan.tenant)))

    def _spend(self, one: _Pending, verdict: Verdict) -> bool:
        """Takes from the outage credit; lowers the grant to what it leaves. False where it does not suffice."""
        tenant = one.plan.tenant
        least, nanos, each = one.row[4:]
        grant = verdict.max_tokens
        if each:
            grant = min(grant, (self._credit.left(tenant) - nanos) // each)
        amount = nanos + each * grant
        if grant < least or not self._credit.take(tenant, amount):
            return False
        verdict.max_tokens, verdict.nanos = grant, amount
        self._on_credit[tenant] = self._batch + 1
        self._holdings.change(tenant, amount)
        return True

    def _give_up(self) -> None:
        """Redis has not come back in time."""
        self._hope = None
        if self._session.online:
            return
        self._hopeful = False
        asks, self._asks = self._asks, []
        for one in asks:
            self._decide_alone(one)

    # Telling

    def _ticket(self, one: _Pending, verdict: Verdict, *, alone: bool = False, on_credit: bool = False) -> Ticket:
        plan = one.plan
        for scope in plan.counted:
            scope.in_flight += 1
        grant = verdict.max_tokens
        tokens = one.row[1] + one.row[2] * grant
        return Ticket(plan, grant if grant < plan.most else 0, tokens, verdict, alone=alone, on_credit=on_credit)

    def _tell(self, one: _Pending, answer: Ticket | ApiError) -> None:
        try:
            one.decided(answer)
        except Exception as error:  # noqa: BLE001 - a fault in one request must not cost the others their answers
            log.error("decided_request_failed", **told(error))

    # Giving back

    def _charge(self, tenant: str, reserved: int, cost: int, sequence: int) -> None:
        if reserved or cost:
            self._holdings.settle(tenant, reserved, cost, sequence)
            self._soon()

    def _close(self, ticket: Ticket, plan: Plan, requests: int, tokens: int) -> None:
        for scope in plan.counted:
            scope.in_flight -= 1
        if ticket.alone:
            self._alone.give_back(plan, requests, tokens)
            requests = tokens = 0
        self._give(plan, -1, requests, tokens)

    def _give(self, plan: Plan, concurrency: int, requests: int, tokens: int) -> None:
        """Notes differences for Redis: a change of concurrency, and what is given back of rates."""
        if plan.bounds:
            row = self._given.get(plan)
            if row is None:
                self._given[plan] = [concurrency, requests, tokens]
            else:
                row[0] += concurrency
                row[1] += requests
                row[2] += tokens
        self._soon()

    def _soon(self) -> None:
        if self._company is None and not self._flushing and self._session.online:
            self._company = self._loop.call_later(_COMPANY_SECONDS, self._alone_long_enough)

    def _alone_long_enough(self) -> None:
        self._company = None
        self._flush()

    # Called by the session

    def _books(self) -> Books:
        """Absolute numbers; what was to be told as differences is in them."""
        for row in self._given.values():
            row[0] = 0
        self._given = {plan: row for plan, row in self._given.items() if row[1] or row[2]}
        in_flight = {scope.name: scope.in_flight for scope in self._plans.scopes.values() if scope.in_flight}
        return Books(in_flight, self._holdings.absolute())

    def _joined(self) -> None:
        if self._hope is not None:
            self._hope.cancel()
            self._hope = None
        self._hopeful = True
        self._flush()

    def _lost(self) -> None:
        self._hopeful = True
        if self._hope is None:
            self._hope = self._loop.call_later(REPLY_SECONDS, self._give_up)

    def _tick(self) -> None:
        self._holdings.look_for_accounts()
        self._credit.save()
        self._soon()
