"""Stream entries → what to commit, without a database."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.metering.intake import Batch, Numbered, Reject, Usage, parse, plan, read

JOURNAL = ("gw", "a")


def _batch(entry: int, first: int, count: int) -> Batch:
    return Batch(
        entry=b"%d-0" % entry,
        journal=JOURNAL,
        first_sequence=first,
        records=tuple(b"%d" % sequence for sequence in range(first, first + count)),
    )


def _sequences(records: tuple[Numbered, ...]) -> list[int]:
    return [record.sequence for record in records]


def test_records_at_or_below_the_watermark_are_skipped() -> None:
    found = plan([_batch(1, 1, 5)], {JOURNAL: 3})
    assert _sequences(found.records) == [4, 5]
    assert found.records[0].raw == b"4"
    assert found.marks == {JOURNAL: 5}
    assert found.done == (b"1-0",)


def test_nothing_above_a_gap_is_taken() -> None:
    found = plan([_batch(1, 1, 2), _batch(2, 4, 2)], {})
    assert _sequences(found.records) == [1, 2]
    assert (found.done, found.held) == ((b"1-0",), (b"2-0",))
    assert found.marks == {JOURNAL: 2}


def test_a_resend_behind_what_waits_fills_the_gap() -> None:
    found = plan([_batch(1, 4, 2), _batch(2, 1, 3)], {})
    assert _sequences(found.records) == [1, 2, 3, 4, 5]
    assert found.held == ()


def test_an_empty_batch_never_moves_the_watermark() -> None:
    found = plan([_batch(1, 100, 0)], {JOURNAL: 7})
    assert (found.marks, found.done, found.records) == ({JOURNAL: 7}, (b"1-0",), ())


def test_a_gap_below_the_floor_is_recorded_and_passed() -> None:
    batch = replace(_batch(1, 9, 2), floor=7)
    found = plan([batch], {JOURNAL: 3})
    assert (found.marks, found.held, found.waiting) == ({JOURNAL: 6}, (b"1-0",), frozenset({JOURNAL}))
    assert [(reject.sequence, reject.journal) for reject in found.lost] == [(4, JOURNAL)]
    resent = plan([batch, replace(_batch(2, 7, 2), floor=7)], found.marks)
    assert (_sequences(resent.records), resent.lost) == ([7, 8, 9, 10], ())


@pytest.mark.parametrize("floor", [0, 1, 4])
def test_a_gap_that_the_gateway_can_fill_waits(floor: int) -> None:
    found = plan([replace(_batch(1, 9, 2), floor=floor)], {JOURNAL: 3})
    assert (found.marks, found.lost) == ({JOURNAL: 3}, ())


def test_a_floor_above_its_own_batch_loses_nothing_of_it() -> None:
    raw = {"gateway": "g", "epoch": "a", "first_sequence": 5, "records": [{}], "floor": 99}
    batch = parse(b"1-0", {b"b": msgspec.msgpack.encode(raw)})
    assert isinstance(batch, Batch)
    assert _sequences(plan([batch], {}).records) == [5]


@given(
    mark=st.integers(0, 20),
    spans=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 8)), max_size=12),
)
def test_every_sequence_is_taken_once_and_in_order_whatever_arrives(mark: int, spans: list[tuple[int, int]]) -> None:
    batches = [_batch(entry, first, count) for entry, (first, count) in enumerate(spans)]
    found = plan(batches, {JOURNAL: mark})
    end = found.marks.get(JOURNAL, mark)
    assert _sequences(found.records) == list(range(mark + 1, end + 1))
    assert sorted([*found.done, *found.held]) == sorted(batch.entry for batch in batches)
    sent = {sequence for first, count in spans for sequence in range(first, first + count)}
    assert end + 1 not in sent, "what follows the watermark was there and was not taken"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"b": b"\xc1 not msgpack"},
        {b"b": msgspec.msgpack.encode({"gateway": "g"})},
        {b"b": msgspec.msgpack.encode({"gateway": "g/h", "epoch": "a", "first_sequence": 1, "records": []})},
        {b"b": msgspec.msgpack.encode({"gateway": "g\0", "epoch": "a", "first_sequence": 1, "records": []})},
        {b"b": msgspec.msgpack.encode({"gateway": "g", "epoch": "a", "first_sequence": 0, "records": []})},
        {b"b": msgspec.msgpack.encode({"gateway": "g", "epoch": "a", "first_sequence": 1 << 63, "records": []})},
    ],
)
def test_an_entry_that_is_no_batch_is_rejected_with_its_bytes(fields: dict[bytes, bytes]) -> None:
    found = parse(b"1-0", fields)
    assert isinstance(found, Reject)
    assert found.reason
    assert found.raw == fields.get(b"b", msgspec.msgpack.encode([]))


def test_one_unreadable_record_costs_itself_and_not_its_batch() -> None:
    raw = msgspec.msgpack.encode({"gateway": "g", "epoch": "a", "first_sequence": 1, "records": [7, {"event_id": "x"}]})
    found = parse(b"1-0", {b"b": raw})
    assert isinstance(found, Batch)
    assert len(found.records) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": "not a uuid"},
        {"tenant": "tnt_short"},
        {"endpoint": "mdl_00000000000000000000000000"},
        {"prompt_tokens": "ten"},
    ],
)
def test_a_record_that_cannot_be_read_says_why(change: dict[str, object]) -> None:
    content = {
        "event_id": "0" * 32,
        "occurred_at_ns": 1_700_000_000_123_456_789,
        "tenant": "tnt_" + "0" * 26,
        "endpoint": "ep_" + "0" * 26,
        "generation": 1,
        **dict.fromkeys(["key", "model", "route", "region", "weight_digest", "engine_digest", "outcome"], ""),
    }
    good = read(Numbered(journal=JOURNAL, sequence=1, raw=msgspec.msgpack.encode(content)))
    assert isinstance(good, Usage)
    assert good.occurred_at.isoformat() == "2023-11-14T22:13:20.123456+00:00"
    bad = read(Numbered(journal=JOURNAL, sequence=9, raw=msgspec.msgpack.encode({**content, **change})))
    assert isinstance(bad, Reject)
    assert bad.reason
    assert bad.sequence == 9


def test_fields_of_a_newer_gateway_are_ignored_and_of_an_older_one_defaulted() -> None:
    content = {
        "event_id": "0" * 32,
        "occurred_at_ns": 0,
        "tenant": "tnt_" + "0" * 26,
        "endpoint": "ep_" + "0" * 26,
        "generation": 1,
        "from_the_future": {"a": [1]},
        **dict.fromkeys(["key", "model", "route", "region", "weight_digest", "engine_digest", "outcome"], ""),
    }
    found = read(Numbered(journal=JOURNAL, sequence=1, raw=msgspec.msgpack.encode(content)))
    assert isinstance(found, Usage)
    assert found.record.billing_mode == "tokens"
