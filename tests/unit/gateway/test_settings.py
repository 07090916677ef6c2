"""Configuration errors name the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.common.env import ConfigurationError
from freehold.gateway.settings import from_environment

MINIMAL = {"REDIS_URL": "redis://x", "FREEHOLD_DATA": "/data"}


def test_state_lies_in_the_data_folder_unless_it_is_named() -> None:
    assert from_environment(MINIMAL).state == Path("/data/gateway")
    assert from_environment({**MINIMAL, "GATEWAY_STATE": "/own"}).state == Path("/own")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_BLOCKED_SECONDS", "soon"),
        ("GATEWAY_MAX_REQUESTS", "many"),
        ("GATEWAY_MAX_GATEWAYS", "0"),
        ("GATEWAY_LOAD_PERCENT", "99"),
        ("GATEWAY_MAX_BODIES", "33554431"),
        ("REDIS_URL", ""),
        ("GATEWAY_ID", "rack/1"),
        ("GATEWAY_ID", "nul\0"),
        ("GATEWAY_ID", "g" * 201),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        from_environment({**MINIMAL, name: value})
