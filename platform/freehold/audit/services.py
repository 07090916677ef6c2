"""Writes the audit trail and proves that it is whole."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.db import connection

from freehold.audit.models import AuditEvent
from freehold.common import clock

_GENESIS = bytes(32)


def record(
    *,
    tenant_id: uuid.UUID | None,
    actor_kind: str,
    actor_id: str,
    actor_label: str,
    action: str,
    object_id: str,
    detail: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Appends one event to the chain of `tenant_id` (None: the platform's), inside the caller's transaction.

    `detail` is JSON and must hold no secret, prompt or answer. The chain is locked until the transaction ends, so call
    this last.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"audit:{tenant_id}"])
    last = AuditEvent.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()
    event = AuditEvent(
        tenant_id=tenant_id,
        sequence=1 if last is None else last.sequence + 1,
        occurred_at=clock.now(),
        actor_kind=actor_kind,
        actor_id=actor_id,
        actor_label=actor_label,
        action=action,
        object_id=object_id,
        detail=dict(detail or {}),
        previous_hash=_GENESIS if last is None else bytes(last.hash),
    )
    event.hash = _digest(event)
    event.save(force_insert=True)
    return event


def first_broken(*, tenant_id: uuid.UUID | None) -> int | None:
    """The sequence number at which a chain no longer holds, or None when it is whole."""
    previous, expected = _GENESIS, 1
    for event in AuditEvent.objects.filter(tenant_id=tenant_id).order_by("sequence").iterator():
        intact = (
            event.sequence == expected
            and bytes(event.previous_hash) == previous
            and bytes(event.hash) == _digest(event)
        )
        if not intact:
            return expected
        previous, expected = bytes(event.hash), expected + 1
    return None


def _digest(event: AuditEvent) -> bytes:
    content = json.dumps(
        [
            str(event.tenant_id),
            event.sequence,
            event.occurred_at.isoformat(),
            event.actor_kind,
            event.actor_id,
            event.actor_label,
            event.action,
            event.object_id,
            event.detail,
        ],
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(bytes(event.previous_hash) + content.encode()).digest()
