"""Sizing against the start-up log of a real engine: whole attention, alternating windows, Mamba beside attention."""

from __future__ import annotations

import pytest

from benchmarks.sizing import CASES, measure

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

KINDS = ("qwen3", "gemma3", "falcon-h1")


def test_the_engine_logs_the_tokens_and_requests_that_were_computed() -> None:
    rows = measure([case for case in CASES if case.name in KINDS])
    assert [row.case.name for row in rows] == list(KINDS)
    for row in rows:
        assert not row.problem
        assert row.engine_tokens is not None
        assert (row.fit.kv_tokens, row.equal) == (row.engine_tokens, True), row
