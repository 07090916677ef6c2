"""Where a tenant's storage goes, for people: by model, what no model uses, uploads under way. Called by api, console.

A content counts once for a tenant, and once for each model that holds it, in however many revisions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.db import connection

from freehold.common import clock
from freehold.common.errors import FreeholdError
from freehold.db.rls import tenant_scope
from freehold.registry import garbage
from freehold.registry.models import ImportFile, ModelRepo, Upload
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from freehold.registry.storage.base import ObjectStore

UPLOADS_SHOWN: Final = 50

_LOOKS_AT_ONCE: Final = 8

# Content by model once, however many of its revisions hold it; beside it, how many models do.
_BY_MODEL = """
    WITH held AS MATERIALIZED (
        SELECT DISTINCT r.repo_id, f.sha256, f.size
        FROM registry_modelfile f JOIN registry_revision r ON r.id = f.revision_id
        WHERE f.tenant_id = %s AND r.tenant_id = %s
    ), shared AS (
        SELECT sha256 FROM held GROUP BY sha256 HAVING count(*) > 1
    )
    SELECT h.repo_id, sum(h.size), coalesce(sum(h.size) FILTER (WHERE s.sha256 IS NULL), 0)
    FROM held h LEFT JOIN shared s ON s.sha256 = h.sha256
    GROUP BY h.repo_id ORDER BY 2 DESC, 1
    LIMIT %s
"""


@dataclass(frozen=True, kw_only=True)
class ModelStorage:
    """What a model holds in all its revisions. `unique_bytes`: of content that no other model of the tenant holds: what
    deleting it would free."""

    repo: ModelRepo
    bytes: int
    unique_bytes: int


@dataclass(frozen=True, kw_only=True)
class Unreferenced:
    """Content that no revision refers to, kept because an upload may be about to commit it. Where none does, all of it
    is gone soon after `kept_until`, which is None where there is none."""

    contents: int
    bytes: int
    kept_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class UploadProgress:
    """An upload under way.

    Attributes:
        path: of the file, where an import brings it; else empty: an upload knows no names.
        received_bytes: None where it comes in one piece, of which nothing is kept until it is whole.
    """

    upload: Upload
    path: str
    received_bytes: int | None


def storage_by_model(*, tenant_id: uuid.UUID, most: int | None = None) -> list[ModelStorage]:
    """The models that hold anything, the largest first; at most `most`."""
    with tenant_scope(tenant_id):
        with connection.cursor() as cursor:
            cursor.execute(_BY_MODEL, [tenant_id, tenant_id, most])
            rows = cursor.fetchall()
        repos = ModelRepo.objects.select_related("tenant").in_bulk([repo_id for repo_id, _, _ in rows])
    return [
        ModelStorage(repo=repos[repo_id], bytes=int(size), unique_bytes=int(unique)) for repo_id, size, unique in rows
    ]


def storage_unreferenced(*, tenant_id: uuid.UUID) -> Unreferenced:
    """What no model uses yet. What none uses any more is not part of it: that is being removed already."""
    with tenant_scope(tenant_id):
        waiting = garbage.unreferenced(tenant_id).filter(doomed_at=None, keep_until__gt=clock.now())
        found = list(waiting.values_list("size", "keep_until"))
    return Unreferenced(
        contents=len(found),
        bytes=sum(size for size, _ in found),
        kept_until=max((until for _, until in found), default=None),
    )


def uploads_under_way(*, tenant_id: uuid.UUID, most: int = UPLOADS_SHOWN) -> list[UploadProgress]:
    """Uploads that hold room, the largest first, with what has come of them. Asks the object store."""
    with tenant_scope(tenant_id):
        live = Upload.objects.filter(tenant_id=tenant_id, doomed_at=None, expires_at__gt=clock.now())
        uploads = list(live.order_by("-size", "-id")[:most])
        paths = dict(
            ImportFile.objects.filter(tenant_id=tenant_id, upload__in=uploads).values_list("upload_id", "path")
        )
    store = object_store()
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        received = list(pool.map(lambda upload: _received(store, upload), uploads))
    return [
        UploadProgress(upload=upload, path=paths.get(upload.pk, ""), received_bytes=count)
        for upload, count in zip(uploads, received, strict=True)
    ]


def _received(store: ObjectStore, upload: Upload) -> int | None:
    """Runs in a thread without a database connection. A store that is away costs the figure, not the page."""
    if not upload.multipart_id:
        return None
    try:
        return sum(part.size for part in store.parts(upload.multipart))
    except FreeholdError:
        return None
