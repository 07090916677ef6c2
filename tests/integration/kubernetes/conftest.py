"""A Kubernetes API server of its own for every test that asks, and a fleet that has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import redis

from tests.fakes.kubernetes import Emulator

if TYPE_CHECKING:
    from tests.integration.kubernetes.world import World


@pytest.fixture
def api() -> Iterator[Emulator]:
    """Fresh, with two nodes of eight H100 each: `gpu-0` in zone eu-north1-a, `gpu-1` in eu-north1-b."""
    with Emulator() as emulator:
        emulator.cluster.add_node("gpu-0", zone="eu-north1-a")
        emulator.cluster.add_node("gpu-1", zone="eu-north1-b")
        yield emulator


@pytest.fixture
def world(api: Emulator, committed_db: None, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> World:
    """The emulator registered as fra-1 in eu-central and looked at; tenant acme with a model."""
    from tests.integration.kubernetes.world import make_world

    monkeypatch.setenv("FREEHOLD_PUBLIC_URL", "https://freehold.example")
    return make_world(api, redis_client)
