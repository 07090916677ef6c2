"""A journal, slots and a meter in a temporary folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from freehold.common.ids import uuid7_hex
from freehold.gateway.auth import Caller
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Bill, Meter
from freehold.gateway.slots import Slots
from freehold.wire.records import KeyRecord, RouteRecord, TenantRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLER = Caller(KeyRecord(id="key_1", tenant="tnt_1"), TenantRecord(slug="acme", cache_salt="salt"), "digest")
ROUTE = RouteRecord(
    endpoint="ep_1",
    tenant="tnt_1",
    generation=2,
    task="generate",
    served_model_name="internal",
    billing_mode="tokens",
    region="local",
    phase="Ready",
    weight_digest="w",
    engine_digest="e",
)


class Books:
    """One life of a process: what it opens and settles."""

    def __init__(self, state: Path, *, segment_bytes: int = 1 << 20, slots: int = 8) -> None:
        self.journal = Journal(state / "journal", segment_bytes=segment_bytes, reserve_bytes=0)
        self.slots = Slots(state / "slots", slots)
        self.meter = Meter(self.journal, self.slots, "local")
        self.recovered = self.meter.recover()

    def open(self) -> Bill:
        """Opens a request."""
        bill = self.meter.open(uuid7_hex(), CALLER, ROUTE, model="acme/chat", path="/v1/chat/completions")
        self.meter.flush()
        return bill

    def closed(self) -> list[tuple[int, str, str]]:
        """(sequence, event, outcome) of everything billed, as the shipper reads it."""
        self.journal.synced = self.journal.sequence
        found = self.journal.closed_after(self.journal.watermark, 1_000)
        return [(sequence, record.event_id, record.outcome) for sequence, record in found]


@pytest.fixture
def books(tmp_path: Path) -> Callable[..., Books]:
    """Begins a life on the same folder."""
    (tmp_path / "state").mkdir()
    return lambda **options: Books(tmp_path / "state", **options)
