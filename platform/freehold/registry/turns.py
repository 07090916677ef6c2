"""Who may have files inspected now. An inspection takes a core and up to half a gigabyte for as long as a minute, so a
process runs few at once, and a tenant one. Called by commits.py.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from freehold.common.errors import RateLimited, Unavailable

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

AT_ONCE: Final = 2
PATIENCE_SECONDS = 10.0  # most inspections take less than a second: waiting for one is better than a refusal

_turns = threading.Condition()
_inspecting: set[uuid.UUID] = set()


@contextmanager
def turn(tenant_id: uuid.UUID) -> Iterator[None]:
    """Waits some seconds for a turn. Raises RateLimited (the tenant's own commit is in the way), Unavailable."""
    with _turns:
        free = _turns.wait_for(
            lambda: tenant_id not in _inspecting and len(_inspecting) < AT_ONCE, timeout=PATIENCE_SECONDS
        )
        if not free and tenant_id in _inspecting:
            raise RateLimited("Another commit of your tenant is being inspected. Commit again when it is done.")
        if not free:
            raise Unavailable("Too many uploads are being inspected right now. Commit again in a minute.")
        _inspecting.add(tenant_id)
    try:
        yield
    finally:
        with _turns:
            _inspecting.remove(tenant_id)
            _turns.notify_all()
