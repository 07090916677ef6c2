"""Writes of the catalog: the operator loads a file, whole. Called by `manage.py catalog_load` and by `make up`."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from freehold.common import clock, ids
from freehold.db.rls import system_scope
from freehold.serving.catalog.document import Catalog, Entry
from freehold.serving.models import CatalogModel
from freehold.tenancy.actors import Actor
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record


@dataclass(frozen=True)
class Loaded:
    """What a load did, as upstream ids in the file's order (`removed` in the alphabet's)."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def catalog_load(*, actor: Actor, catalog: Catalog) -> Loaded:
    """Makes the catalog what the file says: inserts, updates, brings back, and disables what is gone.

    A model that is gone keeps its row, because imports and endpoints may name it. Loading the same file again writes
    nothing, not even an audit event. Raises PermissionDenied.
    """
    require(actor, Operation.CATALOG_MANAGE, tenant_id=None)
    with system_scope("the catalog belongs to no tenant; its audit trail is the platform's"):
        with connection.cursor() as cursor:  # one load at a time: two would insert the same models
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('catalog', 0))")
        known = {model.upstream_id: model for model in CatalogModel.objects.all()}
        new = [entry for entry in catalog.entries if entry.id not in known]
        # Lists are newest first, by id: so the later in the file, the smaller the id.
        fresh = iter(sorted((ids.uuid7() for _ in new), reverse=True))
        added, changed = [], []
        for position, entry in enumerate(catalog.entries):
            model = known.get(entry.id)
            if model is None:
                model = CatalogModel(id=next(fresh), upstream_id=entry.id)
                added.append(entry.id)
                _write(model, entry, position)
            elif not model.enabled or model.document != entry.document:
                changed.append(entry.id)
                _write(model, entry, position)
            elif model.position != position:
                CatalogModel.objects.filter(pk=model.pk).update(position=position)
        gone = set(known) - {entry.id for entry in catalog.entries}
        removed = sorted(name for name in gone if known[name].enabled)
        CatalogModel.objects.filter(upstream_id__in=removed).update(enabled=False, updated_at=clock.now())
        loaded = Loaded(tuple(added), tuple(changed), tuple(removed))
        if loaded:
            audit_record(
                actor=actor,
                tenant_id=None,
                action="catalog.load",
                object_id=f"sha256:{catalog.digest}",
                detail={"added": added, "changed": changed, "removed": removed},
            )
    return loaded


def _write(model: CatalogModel, entry: Entry, position: int) -> None:
    model.title, model.family, model.kind = entry.title, entry.family, entry.kind.value
    model.document, model.position = dict(entry.document), position
    model.enabled, model.updated_at = True, clock.now()
    model.save()
