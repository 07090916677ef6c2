"""Journal → stream, step by step: how much waits in Redis, and what a restored volume or database leads to."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from freehold.gateway import shipper as shipping
from freehold.gateway.meter import Outcome
from freehold.gateway.shipper import Shipper
from freehold.wire import names
from freehold.wire.usage import UsageBatch
from tests.unit.gateway.conftest import Books

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import redis


class Line:
    """A journal and its shipper."""

    def __init__(self, state: Path, url: str, client: redis.Redis) -> None:
        self.books = Books(state, segment_bytes=1_500, slots=64)
        self.journal = self.books.journal
        self.shipper = Shipper(url, self.journal, "gw", 30)
        self._client = client

    async def answer(self, count: int) -> None:
        """Requests are answered and their records shipped."""
        for _ in range(count):
            bill = self.books.open()
            bill.relayed()
            bill.slot.choice(0, 1)
            bill.settle(Outcome.OK, "rpl_1")
        self.journal.synced = self.journal.sequence
        await self.shipper.step()

    def confirm(self, watermark: int) -> None:
        """As the drain does."""
        self._client.hset(names.WATERMARKS, f"gw/{self.journal.epoch}", watermark)

    def batches(self) -> list[UsageBatch]:
        """What is in the stream."""
        entries: Any = self._client.xrange(names.USAGE)
        return [msgspec.msgpack.decode(fields[b"b"], type=UsageBatch) for _, fields in entries]


@pytest.fixture
async def lines(tmp_path: Path, redis_url: str, redis_client: redis.Redis) -> AsyncIterator[Any]:
    """Begins a life on a folder."""
    made: list[Line] = []

    def begin(folder: str = "state") -> Line:
        (tmp_path / folder).mkdir(exist_ok=True)
        made.append(Line(tmp_path / folder, redis_url, redis_client))
        return made[-1]

    yield begin
    for line in made:
        await line.shipper.close()


async def test_while_metering_is_away_redis_holds_only_so_much(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "IN_STREAM", 5)
    line = lines()
    await line.answer(8)
    await line.shipper.step()
    assert sum(len(batch.records) for batch in line.batches()) == 5
    line.confirm(2)
    await line.shipper.step()
    assert line.shipper.sent == 7


async def test_a_batch_says_what_the_journal_still_has(lines: Any) -> None:
    line = lines()
    await line.answer(12)
    line.confirm(12)
    await line.shipper.step()
    await line.answer(1)
    last = line.batches()[-1]
    assert (line.batches()[0].floor, last.first_sequence) == (1, 13)
    assert 1 < last.floor == line.journal.floor <= 13


async def test_an_older_copy_of_the_volume_gives_no_number_twice(lines: Any, tmp_path: Path) -> None:
    line = lines()
    await line.answer(3)
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    await line.answer(4)
    line.confirm(7)
    old = lines("copy")
    epoch = old.journal.epoch
    await old.answer(9)
    assert old.journal.epoch != epoch
    await old.answer(0)
    last = old.batches()[-1]
    assert (last.epoch, last.first_sequence, len(last.records)) == (old.journal.epoch, 1, 12)


async def test_a_journal_that_was_only_restarted_keeps_its_epoch(lines: Any) -> None:
    line = lines()
    await line.answer(3)
    line.confirm(3)
    again = lines()
    await again.answer(1)
    again.confirm(4)
    await again.answer(1)
    assert again.journal.epoch == line.journal.epoch
    assert again.batches()[-1].first_sequence == 5


async def test_what_a_restored_database_forgot_is_sent_again_as_far_as_it_is_here(lines: Any) -> None:
    line = lines()
    await line.answer(12)
    line.confirm(12)
    await line.shipper.step()
    floor = line.journal.floor
    assert floor <= 12
    line.confirm(4)
    await line.shipper.step()
    last = line.batches()[-1]
    assert (last.first_sequence, last.floor, line.shipper.sent) == (floor, floor, 12)
    before = len(line.batches())
    await line.shipper.step()
    assert len(line.batches()) == before
