"""A Kubernetes API server of our own for tests and benchmarks: real HTTP, honest against recordings of a real one.

`Emulator` serves; see `faults.py` for what can be broken, `cluster.py` for the controllers and kubelets a test plays.
What it must answer is in tests/integration/kubernetes/test_emulator_contract.py.
"""

from __future__ import annotations

from tests.fakes.kubernetes.api import Options
from tests.fakes.kubernetes.server import Emulator

__all__ = ["Emulator", "Options"]
