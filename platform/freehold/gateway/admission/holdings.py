"""What this gateway holds of each prepaid balance: open reservations, and what is settled but not yet in the ledger.

A settled amount is held until metering has confirmed its sequence; by then the published balance is lower by it. So for
a moment it is taken off twice, and never not at all.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from freehold.gateway.admission import prices

if TYPE_CHECKING:
    from freehold.gateway.journal import Journal
    from freehold.wire.follow import Snapshot
    from freehold.wire.usage import UsageRecord


class Holdings:
    """Held amounts by tenant.

    Attributes:
        held: tenant → nanos.
        changes: tenant → the part of it that Redis is still to be told.
        watermark: the sequence up to which nothing is held any more.
    """

    def __init__(self, snapshot: Snapshot, journal: Journal) -> None:
        self._snapshot = snapshot
        self._journal = journal
        self._settled: deque[tuple[int, str, int]] = deque()  # sequence, tenant, nanos
        self._newest = 0
        self._epoch = ""
        self._known: set[str] = set()
        self._seen = -1
        self.held: dict[str, int] = {}
        self.changes: dict[str, int] = {}
        self.watermark = journal.watermark

    def reserved(self, tenant: str, nanos: int) -> None:
        """Redis has taken note of it already."""
        self.held[tenant] = self.held.get(tenant, 0) + nanos

    def change(self, tenant: str, nanos: int) -> None:
        """Holds more or less."""
        if nanos:
            self.held[tenant] = self.held.get(tenant, 0) + nanos
            self.changes[tenant] = self.changes.get(tenant, 0) + nanos

    def settle(self, tenant: str, reserved: int, nanos: int, sequence: int) -> None:
        """From a reservation (0 where there was none) to what it has cost, until that is confirmed. The journal has it
        by now."""
        if self._epoch != self._journal.epoch:
            self._begin_anew(self._journal.watermark)
        if sequence <= self._newest:
            nanos = 0  # it was read from the journal already
        elif nanos:
            self._newest = sequence
            self._settled.append((sequence, tenant, nanos))
        self.change(tenant, nanos - reserved)

    def cost(self, record: UsageRecord) -> int:
        """Nanos that a record takes off its tenant's balance; 0 where it has none or does not pay by token."""
        account = self._snapshot.accounts.get(record.tenant)
        if account is None or not account.prepaid or record.billing_mode != "tokens":
            return 0
        found = prices.find(self._snapshot.prices, record.model)
        return prices.cost(prices.in_force(found, record.occurred_at_ns).price, record)

    def confirmed(self, watermark: int) -> None:
        """The ledger has everything up to `watermark`. One that went back (a restored database) or a journal numbered
        anew makes everything above count again."""
        if self._epoch != self._journal.epoch or watermark < self.watermark:
            self._begin_anew(watermark)
            return
        self.watermark = watermark
        settled = self._settled
        done: dict[str, int] = {}
        while settled and settled[0][0] <= watermark:
            _, tenant, nanos = settled.popleft()
            done[tenant] = done.get(tenant, 0) + nanos
        for tenant, nanos in done.items():
            self.change(tenant, -nanos)

    def look_for_accounts(self) -> None:
        """A tenant that has begun to pay from a balance owes what it has used and the ledger does not have."""
        if self._seen == self._snapshot.changes:
            return
        self._seen = self._snapshot.changes
        prepaid = {tenant for tenant, account in self._snapshot.accounts.items() if account.prepaid}
        if prepaid - self._known:
            self._begin_anew(self.watermark)
        self._known = prepaid

    def begin(self, tenant: str) -> None:
        """The same for one tenant, before its first request from a balance."""
        if tenant not in self._known:
            self._seen = -1
            self.look_for_accounts()

    def absolute(self) -> dict[str, int]:
        """What is held, without zeros. Whoever asks tells it to Redis, so that no changes are left to tell."""
        self.changes.clear()
        self.held = {tenant: nanos for tenant, nanos in self.held.items() if nanos}
        return dict(self.held)

    def _begin_anew(self, watermark: int) -> None:
        """Reads from the journal what is settled and not confirmed. Open reservations stay as they are."""
        for _, tenant, nanos in self._settled:
            self.change(tenant, -nanos)
        self._settled.clear()
        self._epoch = self._journal.epoch
        self._newest = self._journal.sequence
        self.watermark = watermark
        for sequence, record in self._journal.unconfirmed(watermark):
            nanos = self.cost(record)
            if nanos:
                self._settled.append((sequence, record.tenant, nanos))
                self.change(record.tenant, nanos)
