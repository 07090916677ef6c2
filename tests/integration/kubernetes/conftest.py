"""A Kubernetes API server of its own for every test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.kubernetes import Emulator


@pytest.fixture
def api() -> Iterator[Emulator]:
    """Fresh, with two nodes of eight H100 each: `gpu-0` in zone eu-north1-a, `gpu-1` in eu-north1-b."""
    with Emulator() as emulator:
        emulator.cluster.add_node("gpu-0", zone="eu-north1-a")
        emulator.cluster.add_node("gpu-1", zone="eu-north1-b")
        yield emulator
