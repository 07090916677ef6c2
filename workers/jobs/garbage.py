"""Garbage collection's jobs: what tasks call. A turn ends after a while; what is left is for the next one."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Final

from freehold.common import clock
from freehold.common.errors import Unavailable
from freehold.common.logging import get_logger
from freehold.registry import garbage
from freehold.registry.contents import keep_for
from freehold.registry.imports import credentials_forget
from freehold.registry.storage import object_store

log = get_logger(__name__)

TURN_SECONDS: Final = 60.0  # of a task that may take 200
_PARTIAL: Final = timedelta(days=2)  # a transfer in one piece that has not moved for so long has died, at least


def collect(tenant_id: uuid.UUID | None = None) -> bool:
    """What is used no more: of one tenant, or of all. Returns whether time was up before it was done."""
    until = time.monotonic() + TURN_SECONDS
    for each in [tenant_id] if tenant_id is not None else garbage.tenants():
        if time.monotonic() > until:
            return True
        garbage.collect(tenant_id=each, until=until)
    return time.monotonic() > until


def sweep() -> None:
    """What nobody needs any more: secrets of imports that ended long ago, what no row speaks of. Tenants' turns come in
    another order each time."""
    until = time.monotonic() + TURN_SECONDS
    credentials_forget()
    try:
        swept = object_store().sweep(before=clock.now() - max(_PARTIAL, keep_for()))
        log.info("store_swept", leftovers=swept)
        for tenant_id in garbage.tenants_shuffled():
            if time.monotonic() > until:
                return
            garbage.leftovers_collect(tenant_id=tenant_id, until=until)
    except (Unavailable, OSError) as error:
        log.warning("sweep_interrupted", error=str(error))
