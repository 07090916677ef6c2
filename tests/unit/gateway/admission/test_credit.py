"""A share of the outage credit is spendable once, whatever happens to the process."""

from __future__ import annotations

from pathlib import Path

from freehold.gateway.admission.credit import Credit
from freehold.wire.follow import Snapshot
from freehold.wire.records import AccountRecord


def snapshot(credit: int = 400) -> Snapshot:
    """With one prepaid tenant."""
    made = Snapshot()
    made.accounts["tnt_1"] = AccountRecord(prepaid=True, outage_credit_nanos=credit)
    return made


def test_each_gateway_has_an_equal_part(tmp_path: Path) -> None:
    credit = Credit(snapshot(), tmp_path / "credit", 4)
    assert credit.take("tnt_1", 60)
    assert not credit.take("tnt_1", 41)
    assert credit.take("tnt_1", 40)
    assert not credit.take("tnt_1", 0)
    assert not credit.take("tnt_unknown", 0)


def test_no_credit_is_nothing(tmp_path: Path) -> None:
    assert not Credit(snapshot(3), tmp_path / "credit", 4).take("tnt_1", 0)


def test_what_was_not_needed_can_be_spent_again(tmp_path: Path) -> None:
    credit = Credit(snapshot(), tmp_path / "credit", 4)
    assert credit.take("tnt_1", 100)
    credit.give_back("tnt_1", 30)
    assert credit.left("tnt_1") == 30


def test_what_was_spent_is_known_after_a_crash(tmp_path: Path) -> None:
    credit = Credit(snapshot(), tmp_path / "credit", 4)
    for spent in range(1, 101):
        assert credit.take("tnt_1", 1)
        assert Credit(snapshot(), tmp_path / "credit", 4).left("tnt_1") <= 100 - spent


def test_a_covered_share_is_whole_again_also_on_disk(tmp_path: Path) -> None:
    credit = Credit(snapshot(), tmp_path / "credit", 4)
    assert credit.take("tnt_1", 100)
    credit.covered("tnt_1")
    assert credit.left("tnt_1") == 100
    credit.save()
    assert Credit(snapshot(), tmp_path / "credit", 4).left("tnt_1") == 100


def test_an_unreadable_file_counts_as_all_spent_until_the_balance_covers_it(tmp_path: Path) -> None:
    (tmp_path / "credit").write_bytes(b"{")
    credit = Credit(snapshot(), tmp_path / "credit", 4)
    assert not credit.take("tnt_1", 1)
    credit.covered("tnt_1")
    assert credit.take("tnt_1", 1)


def test_what_cannot_be_noted_is_not_spent(tmp_path: Path) -> None:
    credit = Credit(snapshot(), tmp_path / "gone" / "credit", 4)
    assert not credit.take("tnt_1", 1)
    assert credit.left("tnt_1") == 100
