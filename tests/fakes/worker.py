"""`celery -A tests.fakes.worker worker`: the real workers, over a machine in memory on which a step can be held up.

With FREEHOLD_TEST_HOLD=<folder> the first step of a replica writes `<folder>/reached` and goes on once there is
`<folder>/go`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.fakes.runtime import MemoryRuntime
from workers.app import app as app
from workers.runtimes import registry
from workers.runtimes.base import Action, FetchToken


class HeldRuntime(MemoryRuntime):
    """Stands still in the middle of a step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def apply(self, action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        (self._folder / "reached").touch()
        while not (self._folder / "go").exists():
            time.sleep(0.05)
        return super().apply(action, endpoint=endpoint, fetch_token=fetch_token)


_held = os.environ.get("FREEHOLD_TEST_HOLD")
_machine = HeldRuntime(Path(_held)) if _held else MemoryRuntime()
registry.local_runtime = lambda: _machine  # type: ignore[assignment] # cached there, one for the process here too
