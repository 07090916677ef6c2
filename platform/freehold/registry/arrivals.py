"""What has arrived of an upload, looked up in the object store itself: clients die between sending and saying so, and
what they send to a presigned URL nobody else sees. Called by hub.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.common import clock
from freehold.common.errors import NotFound, Refused
from freehold.db.rls import tenant_scope
from freehold.registry import contents
from freehold.registry.contents import Content
from freehold.registry.models import Upload
from freehold.registry.storage import object_store
from freehold.registry.storage.base import Completed, Part

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from freehold.registry.storage.base import ObjectStore
    from freehold.tenancy.actors import Actor

_LOOKS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """An upload to go on with, and the numbers of the parts that are there already."""

    upload: Upload
    parts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Look:
    """What the store says of an upload."""

    whole: bool = False
    gone: bool = False
    parts: frozenset[int] = frozenset()


def uploads_resume(*, actor: Actor, tenant_id: uuid.UUID, wanted: Sequence[Content]) -> dict[str, Resumed | None]:
    """As contents.uploads_begin, and goes on where an earlier attempt ended: None also for content that turns out to
    have arrived. Raises as uploads_begin."""
    moment = clock.now()
    begun = contents.uploads_begin(actor=actor, tenant_id=tenant_id, contents=wanted)
    resumed: dict[str, Resumed | None] = {
        sha256: None if upload is None else Resumed(upload=upload) for sha256, upload in begun.items()
    }
    # One that has just been reserved cannot have come yet. Some stores are far away: several are asked at once.
    earlier = [upload for upload in begun.values() if upload is not None and upload.created_at < moment]
    store = object_store()
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        looks = list(pool.map(lambda upload: _look(store, upload), earlier))
    for upload, look in zip(earlier, looks, strict=True):
        if look.whole:
            _finish(actor, upload, Completed(sha256=upload.sha256, verified=False))
            resumed[upload.sha256] = None
        elif look.gone:
            _begin_anew(upload)
            content = Content(sha256=upload.sha256, size=upload.size)
            again = contents.uploads_begin(actor=actor, tenant_id=tenant_id, contents=[content])[upload.sha256]
            resumed[upload.sha256] = None if again is None else Resumed(upload=again)
        else:
            resumed[upload.sha256] = Resumed(upload=upload, parts=look.parts)
    return resumed


def _look(store: ObjectStore, upload: Upload) -> _Look:
    """Runs in a thread without a database connection."""
    if upload.multipart_id:
        try:
            return _Look(parts=frozenset(part.number for part in store.parts(upload.multipart)))
        except NotFound:
            return _Look(whole=_is_there(store, upload), gone=True)
    return _Look(whole=_is_there(store, upload))


def _is_there(store: ObjectStore, upload: Upload) -> bool:
    return store.size(upload.tenant_id, upload.sha256) == upload.size


def _begin_anew(upload: Upload) -> None:
    """Its transfer in parts is gone from the store: the next attempt gets another."""
    with tenant_scope(upload.tenant_id):
        Upload.objects.filter(pk=upload.pk, multipart_id=upload.multipart_id).update(multipart_id="", part_bytes=0)


def upload_complete(*, actor: Actor, tenant_id: uuid.UUID, upload_id: uuid.UUID, parts: Sequence[Part]) -> None:
    """All parts have been sent: puts them together. May take as long as hashing does.

    Raises Refused where they are not what was declared: then they are thrown away, and the upload can be begun again at
    once. Raises NotFound where the upload is finished, expired or gone.
    """
    upload = contents.upload_get(tenant_id=tenant_id, upload_id=upload_id)
    if not upload.multipart_id:
        raise Refused("This upload does not come in parts.")
    store = object_store()
    try:
        completed = store.multipart_complete(upload.multipart, parts)
    except (Refused, NotFound):
        look = _look(store, upload)
        if not look.whole:
            if look.gone:
                _begin_anew(upload)
            raise
        completed = Completed(sha256=upload.sha256, verified=False)  # by somebody who died before saying so
    _finish(actor, upload, completed)


def upload_received(*, actor: Actor, upload: Upload) -> None:
    """The whole content has come in one piece and its hash is right."""
    _finish(actor, upload, Completed(sha256=upload.sha256, verified=True))


def content_arrived(*, actor: Actor, tenant_id: uuid.UUID, content: Content) -> bool:
    """Whether a content is there whole. One that came by a presigned URL is known from now on, unverified."""
    entry = contents.content_find(tenant_id=tenant_id, sha256=content.sha256)
    if entry is not None:
        return entry.size == content.size
    upload = contents.upload_find(tenant_id=tenant_id, sha256=content.sha256)
    if upload is None or upload.size != content.size or not _is_there(object_store(), upload):
        return False
    _finish(actor, upload, Completed(sha256=content.sha256, verified=False))
    return True


def _finish(actor: Actor, upload: Upload, completed: Completed) -> None:
    contents.upload_finish(
        actor=actor,
        tenant_id=upload.tenant_id,
        upload_id=upload.pk,
        sha256=completed.sha256,
        verified=completed.verified,
    )
    if upload.multipart_id:
        object_store().multipart_abort(upload.multipart)  # it may have come whole, past the parts that were begun
