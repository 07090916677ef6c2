"""For who wants room back now: an upload is cancelled, and content that no model uses is given up before its time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import Sum

from freehold.common import clock
from freehold.common.errors import NotFound
from freehold.registry import accounts, garbage
from freehold.registry.contents import keep_for
from freehold.registry.models import Blob, Upload
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import hints

if TYPE_CHECKING:
    import uuid

    from freehold.tenancy.actors import Actor

IDLE: Final = timedelta(hours=24)  # no link to upload by lives longer


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """What is being removed from now on. `freed_bytes`: of the content and of what was reserved for the uploads."""

    contents: int
    uploads: int
    freed_bytes: int


def upload_cancel(*, actor: Actor, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
    """Ends an upload under way: what has come of it is thrown away, and its room is free at once. Who is sending at
    this moment is told that the upload is gone. Raises NotFound where it is finished, or gone already."""
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    with accounts.locked(tenant_id):
        upload = Upload.objects.filter(pk=upload_id, doomed_at=None).first()
        if upload is None:
            raise NotFound("There is no such upload under way.")
        claimed = garbage.upload_claim(upload)
        detail: dict[str, object] = {"sha256": upload.sha256, "size": upload.size, "begun_by": upload.created_by}
        audit_record(
            actor=actor, tenant_id=tenant_id, action="upload.cancel", object_id=upload.public_id, detail=detail
        )
    garbage.finish(claimed)


def content_discard(*, actor: Actor, tenant_id: uuid.UUID, idle: timedelta = IDLE) -> Discarded:
    """Gives up content that no revision refers to, and uploads under way, where nobody has asked for them for `idle`:
    of refused commits, or abandoned. They need not be kept for the rest of their time. With no `idle` at all, also
    what is being uploaded at this moment.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    with accounts.locked(tenant_id) as account:
        moment = clock.now()
        last = moment - max(idle, timedelta(0)) + keep_for()  # of those that were asked for `idle` ago
        keys = dict(garbage.given_up(tenant_id, by=last).values_list("pk", "size"))
        Blob.objects.filter(pk__in=keys, keep_until__gt=moment).update(keep_until=moment)
        uploads = Upload.objects.filter(
            tenant_id=tenant_id, doomed_at=None, expires_at__gt=moment, expires_at__lte=last
        )
        reserved = uploads.aggregate(total=Sum("size", default=0))["total"]
        ended = uploads.update(expires_at=moment)
        found = Discarded(contents=len(keys), uploads=ended, freed_bytes=sum(keys.values()) + reserved)
        detail: dict[str, object] = {"contents": found.contents, "uploads": ended, "bytes": found.freed_bytes}
        audit_record(
            actor=actor, tenant_id=tenant_id, action="storage.cleanup", object_id=account.public_id, detail=detail
        )
        transaction.on_commit(partial(hints.send, hints.COLLECT_GARBAGE, str(tenant_id)))
    return found
