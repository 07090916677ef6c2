"""The outage credit: what a prepaid tenant may be served for while its balance cannot be asked.

Each of the configured number of gateways has an equal share, spendable once: what was served on credit counts against
it until this gateway has told Redis all it holds and the balance was seen to cover that. Thus what a tenant owes beyond
its balance is, at any time, at most what all gateways together have counted, and that is at most its credit.

What is counted survives a crash: the file says no less than what was served, because it is written ahead, in steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from freehold.common.logging import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from freehold.wire.follow import Snapshot

log = get_logger(__name__)

_STEPS = 16  # of a share: how often a tenant's outage can make us write


class Credit:
    """Credit of all tenants at this gateway.

    Args:
        path: the file; its folder exists.
        gateways: how many share a tenant's credit.
    """

    def __init__(self, snapshot: Snapshot, path: Path, gateways: int) -> None:
        self._snapshot = snapshot
        self._path = path
        self._gateways = gateways
        self._lost = False  # what was counted before we started
        self._written: dict[str, int] = {}  # as the file has it
        try:
            self._written = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            log.error("outage_credit_unreadable", path=str(path), error=str(error))
            self._lost = True
        self._used = dict(self._written)

    def left(self, tenant: str) -> int:
        """Nanos that may still be spent."""
        return self._share(tenant) - self._count(tenant)

    def take(self, tenant: str, nanos: int) -> bool:
        """Spends. False where it is used up, or cannot be noted."""
        share, before = self._share(tenant), self._count(tenant)
        used = before + nanos
        if used > share or before >= share:
            return False
        if used > self._written.get(tenant, 0):
            ahead = min(share, used + share // _STEPS)
            if not self._write({**self._written, tenant: ahead}):
                return False
        self._used[tenant] = used
        return True

    def give_back(self, tenant: str, nanos: int) -> None:
        """Part of what was taken was not needed."""
        if tenant in self._used:
            self._used[tenant] = max(0, self._used[tenant] - nanos)

    def counts(self, tenant: str) -> bool:
        """Whether anything counts against the share."""
        return self._count(tenant) > 0

    def covered(self, tenant: str) -> None:
        """The balance covers all that this gateway holds: the share is whole again."""
        self._used[tenant] = 0

    def save(self) -> None:
        """Brings the file down to what counts now."""
        counted = {tenant: nanos for tenant, nanos in self._used.items() if nanos}
        if any(counted.get(tenant, 0) < nanos for tenant, nanos in self._written.items()):
            self._write(counted)

    def _share(self, tenant: str) -> int:
        account = self._snapshot.accounts.get(tenant)
        return 0 if account is None else account.outage_credit_nanos // self._gateways

    def _count(self, tenant: str) -> int:
        return self._used.get(tenant, self._share(tenant) if self._lost else 0)

    def _write(self, wanted: dict[str, int]) -> bool:
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(wanted))
            temporary.replace(self._path)
        except OSError as error:
            log.error("outage_credit_not_written", path=str(self._path), error=str(error))
            return False
        self._written = wanted
        return True
