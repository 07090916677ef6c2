"""Conditions as they are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from freehold.common.conditions import Condition, merge
from freehold.serving.choices import TRANSITIONS, ConditionType, Phase

AT = datetime(2026, 11, 23, tzinfo=UTC)
LATER = AT + timedelta(minutes=1)


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = merge([], [Condition(ConditionType.READY, "False", "Starting")], at=AT)
    same = merge(first, [Condition(ConditionType.READY, "False", "StillStarting")], at=LATER)
    changed = merge(same, [Condition(ConditionType.READY, "True", "Answers")], at=LATER)
    assert same[0]["last_transition_at"] == AT.isoformat()
    assert same[0]["reason"] == "StillStarting"
    assert changed[0]["last_transition_at"] == LATER.isoformat()


def test_nothing_comes_back_from_deletion() -> None:
    assert TRANSITIONS[Phase.DELETING] == {Phase.DELETED}
    assert TRANSITIONS[Phase.DELETED] == frozenset()
    assert set(TRANSITIONS) == set(Phase)
