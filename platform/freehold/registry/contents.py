"""How content comes in: room is reserved, bytes are moved (elsewhere), then a Blob says that they are there.

Called by hub (large files), hub.commits (small files inline) and imports. Everything is by tenant and sha256; content
that a tenant has not uploaded is nothing to it, whoever else has it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import transaction

from freehold.common import clock
from freehold.common.errors import InvalidInput, NotFound, Unavailable
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, digests
from freehold.registry.models import Blob, Upload
from freehold.registry.storage import object_store
from freehold.registry.storage.base import PART_BYTES, check_sha256
from freehold.registry.trees import Entry
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import hints

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping, Sequence

    from freehold.tenancy.actors import Actor

MULTIPART_BYTES: Final = 2 * PART_BYTES  # what is larger comes in parts, so that it can be resumed

_DOOMED_SECONDS = 3.0  # how long a caller waits for the removal of what it wants to upload again
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Content:
    """What somebody wants to upload, as they declare it."""

    sha256: str
    size: int


class _Doomed(Exception):
    """Some of it is being removed from the store at this moment."""


def keep_for() -> timedelta:
    """How long content that no revision refers to is kept, and an unfinished upload can be resumed."""
    return timedelta(hours=settings.UPLOAD_KEEP_HOURS)


def uploads_begin(*, actor: Actor, tenant_id: uuid.UUID, contents: Sequence[Content]) -> dict[str, Upload | None]:
    """Reserves room for what is not there yet. By sha256: None for content that is there already (nothing to do), else
    the upload to continue, which is the same one for the same content until it expires.

    Raises QuotaExceeded before a byte moves, InvalidInput, PermissionDenied, and Unavailable where some of the content
    is being collected at this moment.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    wanted = {check_sha256(content.sha256): content for content in contents}
    deadline = time.monotonic() + _DOOMED_SECONDS
    while True:
        try:
            uploads = _reserve(actor, tenant_id, wanted)
        except _Doomed:
            if time.monotonic() > deadline:
                raise Unavailable("Some of this content is just being removed. Upload it again in a minute.") from None
            time.sleep(_PAUSE_SECONDS)
            continue
        return {sha256: None if upload is None else _in_parts(upload) for sha256, upload in uploads.items()}


def _reserve(actor: Actor, tenant_id: uuid.UUID, wanted: Mapping[str, Content]) -> dict[str, Upload | None]:
    moment = clock.now()
    with accounts.locked(tenant_id) as account:
        present = {blob.sha256: blob for blob in Blob.objects.filter(tenant_id=tenant_id, sha256__in=wanted)}
        begun = {upload.sha256: upload for upload in Upload.objects.filter(tenant_id=tenant_id, sha256__in=wanted)}
        if any(blob.doomed_at for blob in present.values()) or any(upload.doomed_at for upload in begun.values()):
            raise _Doomed
        for sha256, content in wanted.items():
            known = present.get(sha256) or begun.get(sha256)
            if known is not None and known.size != content.size:
                raise InvalidInput(
                    f"The content with the sha256 {sha256} has {known.size} bytes, not {content.size}.", field="size"
                )
        _keep(present.values())
        # An expired one is revived: its room was free meanwhile, so it is asked for again.
        fresh = [
            content
            for sha256, content in wanted.items()
            if sha256 not in present and (sha256 not in begun or begun[sha256].expires_at <= moment)
        ]
        accounts.check_room(account, sum(content.size for content in fresh))
        Upload.objects.filter(pk__in=[upload.pk for upload in begun.values()]).update(expires_at=moment + keep_for())
        added = Upload.objects.bulk_create(
            [
                Upload(
                    tenant_id=tenant_id,
                    sha256=content.sha256,
                    size=content.size,
                    created_by=actor.id,
                    expires_at=moment + keep_for(),
                )
                for content in fresh
                if content.sha256 not in begun
            ]
        )
        begun |= {upload.sha256: upload for upload in added}
        return {sha256: None if sha256 in present else begun[sha256] for sha256 in wanted}


def room_check(*, tenant_id: uuid.UUID, wanted: int) -> None:
    """Raises QuotaExceeded where `wanted` more bytes would not fit now. It promises nothing: uploads_begin does."""
    with accounts.locked(tenant_id) as account:
        accounts.check_room(account, wanted)


def upload_begin_unnamed(*, actor: Actor, tenant_id: uuid.UUID, size: int) -> Upload:
    """An upload in parts of content whose hash is only known at its end. Raises as uploads_begin."""
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    with accounts.locked(tenant_id) as account:
        # It may turn out to be what is being removed. Once it is there, nothing of its size is (garbage.py).
        same = [rows.filter(tenant_id=tenant_id, size=size) for rows in (Blob.objects.all(), Upload.objects.all())]
        if any(rows.exclude(doomed_at=None).exists() for rows in same):
            raise Unavailable("Some content of this size is just being removed. Upload it again in a minute.")
        accounts.check_room(account, size)
        upload = Upload.objects.create(
            tenant_id=tenant_id, size=size, created_by=actor.id, expires_at=clock.now() + keep_for()
        )
    return _in_parts(upload, always=True)


def _in_parts(upload: Upload, *, always: bool = False) -> Upload:
    """The upload, its transfer in parts begun where it is large. Two callers at once agree on one."""
    if upload.multipart_id or not (always or upload.size > MULTIPART_BYTES):
        return upload
    store = object_store()
    multipart = store.multipart_begin(upload.tenant_id, sha256=upload.sha256, size=upload.size)
    with tenant_scope(upload.tenant_id):
        won = Upload.objects.filter(pk=upload.pk, multipart_id="").update(
            multipart_id=multipart.id, part_bytes=multipart.part_bytes
        )
        current = Upload.objects.filter(pk=upload.pk).first()
    if not won:
        store.multipart_abort(multipart)
    if current is None:
        raise NotFound("This upload is gone. Start it again.")
    return current


def upload_get(*, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Upload:
    """An upload that can be continued. Raises NotFound where it is finished, expired or another tenant's."""
    with tenant_scope(tenant_id):
        upload = Upload.objects.filter(pk=upload_id, doomed_at=None, expires_at__gt=clock.now()).first()
    if upload is None:
        raise NotFound("This upload is finished, or has expired. Start it again.")
    return upload


def upload_find(*, tenant_id: uuid.UUID, sha256: str) -> Upload | None:
    """The upload under way of some content."""
    with tenant_scope(tenant_id):
        return Upload.objects.filter(sha256=sha256, doomed_at=None, expires_at__gt=clock.now()).first()


def upload_finish(*, actor: Actor, tenant_id: uuid.UUID, upload_id: uuid.UUID, sha256: str, verified: bool) -> Blob:
    """The bytes of an upload have arrived whole in the store: from now on they are content. Twice is once.

    `verified`: whether they have been hashed on their way; else a worker does it before anything that holds them can be
    deployed. The links that move bytes carry no key, so `actor` is a process where one of them ended. Raises NotFound
    where the upload is gone.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    moment = clock.now()
    with accounts.locked(tenant_id) as account:
        upload = Upload.objects.filter(pk=upload_id, doomed_at=None).first()
        blob = Blob.objects.filter(tenant_id=tenant_id, sha256=sha256, doomed_at=None).first()
        if upload is None and blob is None:
            raise NotFound("This upload has expired. Start it again.")
        if blob is None and upload is not None:
            if upload.expires_at <= moment:
                accounts.check_room(account, upload.size)  # its room was free again meanwhile
            blob = Blob.objects.create(
                tenant_id=tenant_id,
                sha256=sha256,
                size=upload.size,
                verified_at=moment if verified else None,
                keep_until=moment + keep_for(),
            )
            detail: dict[str, object] = {"sha256": sha256, "size": upload.size, "begun_by": upload.created_by}
            audit_record(
                actor=actor, tenant_id=tenant_id, action="blob.upload", object_id=blob.public_id, detail=detail
            )
            if not verified:
                _ask_for_verification()
        elif blob is not None and verified and blob.verified_at is None:
            Blob.objects.filter(pk=blob.pk).update(verified_at=moment)
            _ask_for_verification()  # revisions may wait for nothing else any more
        if upload is not None:
            upload.delete()
    assert blob is not None  # noqa: S101 - one of the two branches above
    return blob


def _ask_for_verification() -> None:
    transaction.on_commit(partial(hints.send, hints.VERIFY, queue=hints.TRANSFERS))


def content_find(*, tenant_id: uuid.UUID, sha256: str) -> Entry | None:
    """A large file's content as a commit names it, or None where this tenant has not uploaded it (whoever else has)."""
    return contents_find(tenant_id=tenant_id, sha256s=[sha256]).get(sha256)


def contents_find(*, tenant_id: uuid.UUID, sha256s: Iterable[str]) -> dict[str, Entry]:
    """As content_find, for many at once."""
    with tenant_scope(tenant_id):
        found = dict(Blob.objects.filter(sha256__in=set(sha256s), doomed_at=None).values_list("sha256", "size"))
    return {sha256: _large(sha256, size) for sha256, size in found.items()}


def _large(sha256: str, size: int) -> Entry:
    pointer = digests.lfs_pointer(sha256=sha256, size=size)
    return Entry(sha256=sha256, size=size, oid=digests.git_oid(pointer), lfs=True)


def contents_add(*, actor: Actor, tenant_id: uuid.UUID, contents: Sequence[bytes]) -> list[Entry]:
    """Stores small files' content, so that a commit can name it. In the order given. Raises as uploads_begin."""
    entries = [
        Entry(sha256=digests.sha256(content), size=len(content), oid=digests.git_oid(content), lfs=False)
        for content in contents
    ]
    wanted = {entry.sha256: Content(sha256=entry.sha256, size=entry.size) for entry in entries}
    uploads = uploads_begin(actor=actor, tenant_id=tenant_id, contents=list(wanted.values()))
    store = object_store()
    bytes_of = {entry.sha256: content for entry, content in zip(entries, contents, strict=True)}
    arrived = {sha256: upload for sha256, upload in uploads.items() if upload is not None}
    for sha256, upload in arrived.items():
        writer = store.writer(tenant_id, sha256=sha256, size=upload.size)
        try:
            writer.write(bytes_of[sha256])
            writer.commit()
        finally:
            writer.abort()
    if arrived:
        _register(tenant_id, list(arrived.values()))
    return entries


def content_add(*, actor: Actor, tenant_id: uuid.UUID, content: bytes) -> Entry:
    """As contents_add, for one."""
    return contents_add(actor=actor, tenant_id=tenant_id, contents=[content])[0]


def _register(tenant_id: uuid.UUID, uploads: Sequence[Upload]) -> None:
    """Small files are not worth an audit event each: the commit that names them has one. Raises Unavailable where one
    was cancelled, or has expired, while it was written: its bytes may be gone."""
    moment = clock.now()
    with accounts.locked(tenant_id) as account:
        keys = [upload.pk for upload in uploads]
        alive = {upload.pk: upload for upload in Upload.objects.filter(pk__in=keys, doomed_at=None)}
        others = {upload.sha256 for upload in uploads if upload.pk not in alive}
        there = Blob.objects.filter(tenant_id=tenant_id, sha256__in=others, doomed_at=None)
        if there.count() < len(others):
            raise Unavailable("What was uploaded has been removed meanwhile. Commit again.")
        accounts.check_room(account, sum(each.size for each in alive.values() if each.expires_at <= moment))
        Blob.objects.bulk_create(
            [
                Blob(
                    tenant_id=tenant_id,
                    sha256=upload.sha256,
                    size=upload.size,
                    verified_at=moment,
                    keep_until=moment + keep_for(),
                )
                for upload in alive.values()
            ],
            ignore_conflicts=True,
        )
        Upload.objects.filter(pk__in=list(alive)).delete()


def _keep(blobs: Iterable[Blob]) -> None:
    moment = clock.now()
    Blob.objects.filter(pk__in=[blob.pk for blob in blobs]).update(keep_until=moment + keep_for())
