"""What the log hears of a mistake of ours."""

from __future__ import annotations

import pytest

from freehold.gateway.mistakes import told


def test_a_mistake_is_told_by_kind_and_place_and_never_by_what_it_quotes() -> None:
    prompt = " ".join(["secret", "prompt"]) + chr(0xD800)
    with pytest.raises(UnicodeEncodeError) as caught:
        prompt.encode()
    assert "secret prompt" in repr(caught.value)
    found = told(caught.value)
    assert found["error"] == "UnicodeEncodeError"
    assert "test_a_mistake_is_told" in found["where"]
    assert "secret prompt" not in "".join(found.values())
