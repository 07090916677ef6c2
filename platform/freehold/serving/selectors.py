"""Reads of serving. Querysets are read inside the caller's scope."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db.models import QuerySet

from freehold.common.errors import NotFound
from freehold.db.rls import system_scope
from freehold.serving.models import Endpoint


def endpoint_list(*, tenant_id: uuid.UUID) -> QuerySet[Endpoint]:
    """A tenant's endpoints, newest first, without the deleted."""
    return (
        Endpoint.objects.filter(tenant_id=tenant_id, deleted_at=None)
        .select_related("tenant", "cluster__region")
        .prefetch_related("specs__revision__repo", "specs__flavor")
        .order_by("-id")
    )


def endpoint_get(*, tenant_id: uuid.UUID, endpoint_id: uuid.UUID) -> Endpoint:
    """One endpoint. Raises NotFound, also for another tenant's."""
    endpoint = endpoint_list(tenant_id=tenant_id).filter(pk=endpoint_id).first()
    if endpoint is None:
        raise NotFound("There is no such endpoint.")
    return endpoint


def clusters_due(*, now: datetime) -> list[uuid.UUID]:
    """Clusters with endpoints that a worker should look at. Read by workers."""
    with system_scope("workers look for due endpoints of every tenant"):
        return list(
            Endpoint.objects.filter(deleted_at=None, next_reconcile_at__lte=now)
            .values_list("cluster_id", flat=True)
            .distinct()
        )
