"""Reads of the catalog. It belongs to no tenant, so nothing here needs a scope."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from freehold.common.errors import NotFound
from freehold.serving.models import CatalogModel


def catalog_list(*, kind: str = "", family: str = "", query: str = "") -> QuerySet[CatalogModel]:
    """The models on offer, newest first; models loaded together are in the file's order.

    `kind` and `family` are matched whole, `query` anywhere in id, title and family, whatever the case.
    """
    models = CatalogModel.objects.filter(enabled=True)
    if kind:
        models = models.filter(kind=kind)
    if family:
        models = models.filter(family=family)
    if query:
        models = models.filter(Q(upstream_id__icontains=query) | Q(title__icontains=query) | Q(family__icontains=query))
    return models.order_by("-id")


def catalog_get(*, upstream_id: str) -> CatalogModel:
    """One model on offer. Raises NotFound, also for one that is offered no longer."""
    # PostgreSQL has no text with NUL, and would not compare with one.
    possible = CatalogModel.objects.none() if "\0" in upstream_id else CatalogModel.objects.filter(enabled=True)
    model = possible.filter(upstream_id=upstream_id).first()
    if model is None:
        raise NotFound(f"The catalog has no model {upstream_id!r}. GET /api/v1/catalog lists what there is.")
    return model
