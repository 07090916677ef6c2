"""Public ids."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.common import ids
from freehold.common.errors import NotFound


@given(st.uuids())
def test_an_id_survives_the_way_out_and_back(value: uuid.UUID) -> None:
    text = ids.encode("ep", value)
    assert len(text) == len("ep_") + 26
    assert ids.decode("ep", text) == value


@given(st.text(max_size=40))
def test_what_is_no_id_is_not_found(text: str) -> None:
    try:
        value = ids.decode("ep", text)
    except NotFound:
        return
    assert ids.encode("ep", value) == text


@pytest.mark.parametrize("text", ["", "ep_", "mdl_" + "0" * 26, "ep_" + "8" + "0" * 25, "ep_" + "u" * 26])
def test_malformed_and_foreign_prefixes_are_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        ids.decode("ep", text)


def test_uuid7_is_a_version_7_uuid_and_sorts_by_time() -> None:
    first = ids.uuid7()
    deadline = time.time_ns() // 1_000_000 + 1
    while time.time_ns() // 1_000_000 < deadline:
        pass
    second = ids.uuid7()
    assert first.version == second.version == 7
    assert first.variant == uuid.RFC_4122
    assert first < second
