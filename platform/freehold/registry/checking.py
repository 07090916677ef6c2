"""Compares what the database says is stored with what is. Called by `manage.py storage_check`; it changes nothing.

Others upload and delete meanwhile: whatever does not fit is looked at once more before it is reported.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.db.models import Exists, OuterRef

from freehold.common import clock
from freehold.common.errors import NotFound
from freehold.db.rls import tenant_scope
from freehold.registry import garbage
from freehold.registry.choices import RevisionStatus
from freehold.registry.contents import keep_for
from freehold.registry.models import Blob, ModelFile, Upload
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from freehold.registry.storage.base import Stored

_CHUNK: Final = 1024 * 1024
_ROWS: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that does not fit.

    Attributes:
        kind: missing, size, hash, unknown, dangling, stuck or parts.
        name: a sha256, or an upload's id.
        detail: what is wrong, for people.
    """

    kind: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.detail}"


def storage_check(*, tenant_id: uuid.UUID, hashed: bool = False) -> Iterator[Problem]:
    """Everything of one tenant that does not fit; with `hashed` every content is read. Holds the names of what lies in
    the store in memory, about 150 bytes each."""
    stored = {entry.sha256: entry for entry in object_store().listing(tenant_id)}
    known: set[str] = set()
    for blob in _blobs(tenant_id):
        known.add(blob.sha256)
        yield from _check_blob(blob, stored.get(blob.sha256), hashed=hashed)
    yield from _check_unknown(tenant_id, [entry for sha256, entry in stored.items() if sha256 not in known])
    yield from _check_files(tenant_id)
    yield from _check_uploads(tenant_id)


def _blobs(tenant_id: uuid.UUID) -> Iterator[Blob]:
    """All, some at a time: no transaction is open while they are looked at."""
    after = ""
    while True:
        with tenant_scope(tenant_id):
            some = list(Blob.objects.filter(tenant_id=tenant_id, sha256__gt=after).order_by("sha256")[:_ROWS])
        if not some:
            return
        yield from some
        after = some[-1].sha256


def _check_blob(blob: Blob, entry: Stored | None, *, hashed: bool) -> Iterator[Problem]:
    if blob.doomed_at is not None:
        if blob.doomed_at < clock.now() - 2 * garbage.LEASE:
            yield _problem("stuck", blob.sha256, f"is being removed since {blob.doomed_at:%Y-%m-%d %H:%M} UTC")
        return
    found = hashlib.sha256()
    size = entry.size if entry else None
    if size != blob.size or hashed:
        size = _read(blob, found if hashed else None)
    if size == blob.size and (not hashed or found.hexdigest() == blob.sha256):
        return
    with tenant_scope(blob.tenant_id):
        if not Blob.objects.filter(pk=blob.pk, doomed_at=None).exists():
            return  # collected meanwhile
    if size is None:
        yield _problem("missing", blob.sha256, f"is not in the store; {blob.size} bytes should be")
    elif size != blob.size:
        yield _problem("size", blob.sha256, f"has {size} bytes in the store, not {blob.size}")
    else:
        yield _problem("hash", blob.sha256, f"holds other bytes: their sha256 is {found.hexdigest()}")


def _read(blob: Blob, digest: hashlib._Hash | None) -> int | None:
    """Bytes of a content, which go through `digest`; None where there are none."""
    try:
        with object_store().open(blob.tenant_id, blob.sha256) as stream:
            if digest is None:
                return stream.seek(0, 2)
            size = 0
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
            return size
    except FileNotFoundError:
        return None


def _check_unknown(tenant_id: uuid.UUID, entries: list[Stored]) -> Iterator[Problem]:
    """What is young may be an upload that is just ending."""
    before = clock.now() - keep_for()
    with tenant_scope(tenant_id):
        known = set(Blob.objects.filter(tenant_id=tenant_id).values_list("sha256", flat=True))
        known |= set(Upload.objects.filter(tenant_id=tenant_id).values_list("sha256", flat=True))
    for entry in entries:
        if entry.sha256 not in known and entry.modified_at < before:
            yield _problem("unknown", entry.sha256, f"{entry.size} bytes that no row speaks of, to be collected")


def _check_files(tenant_id: uuid.UUID) -> Iterator[Problem]:
    """Files of revisions that can be used must have content."""
    with tenant_scope(tenant_id):
        blobs = Blob.objects.filter(tenant_id=tenant_id, sha256=OuterRef("sha256"), size=OuterRef("size"))
        files = ModelFile.objects.filter(~Exists(blobs.filter(doomed_at=None)), tenant_id=tenant_id)
        usable = files.exclude(revision__status=RevisionStatus.REFUSED.value).select_related("revision__repo")
        found = [
            _problem(
                "dangling",
                file.sha256,
                f"{file.revision.repo.name}@{file.revision.commit_id[:12]}/{file.path} has no content",
            )
            for file in usable.order_by("pk")
        ]
    yield from found


def _check_uploads(tenant_id: uuid.UUID) -> Iterator[Problem]:
    with tenant_scope(tenant_id):
        uploads = list(Upload.objects.filter(tenant_id=tenant_id).order_by("pk"))
    for upload in uploads:
        if upload.doomed_at is not None and upload.doomed_at < clock.now() - 2 * garbage.LEASE:
            yield _problem("stuck", upload.public_id, f"is being removed since {upload.doomed_at:%Y-%m-%d %H:%M} UTC")
        elif upload.doomed_at is None and upload.multipart_id:
            try:
                object_store().parts(upload.multipart)
            except NotFound:
                yield _problem("parts", upload.public_id, "its parts are gone; it begins anew when it is continued")


def _problem(kind: str, name: str, detail: str) -> Problem:
    return Problem(kind=kind, name=name, detail=detail)
