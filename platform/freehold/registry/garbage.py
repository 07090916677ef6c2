"""What no model uses any more leaves the object store. Called by workers (workers/jobs/garbage.py) and discards.py.

Removal has three steps, and no transaction spans them: under the lock of the tenant's account rows are doomed, which
nobody can refer to or continue from then on; bytes are removed; the rows go. Whoever wants to upload doomed content
waits until its row is gone. Who dies in between leaves doomed rows, which somebody else finishes.

`doomed_at` is also a lease. A collector that stood still and wakes up late must not remove what has been uploaded anew
meanwhile: it begins no removal later than RENEW_SECONDS after it has doomed the rows, or has made sure that they are
still its own, and nobody takes them over before LEASE is over. Between the two lies what one removal may take.

An upload protects content from being doomed: that of its hash or, where it does not know its hash yet, any of its size.
It does so as long as its row is there and not doomed, expired or not: its bytes may lie in the store already.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from django.db.models import Exists, OuterRef, Q

from freehold.common import clock
from freehold.common.errors import FreeholdError
from freehold.common.logging import get_logger
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import accounts
from freehold.registry.choices import ImportStatus
from freehold.registry.contents import keep_for
from freehold.registry.models import Blob, ImportFile, ModelFile, Upload, WeightHeader
from freehold.registry.storage import object_store
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import audit_record

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Sequence

    from django.db.models import QuerySet

    from freehold.common.clock import Clock
    from freehold.registry.storage.base import ObjectStore, Stored

log = get_logger(__name__)

LEASE: Final = timedelta(minutes=15)
RENEW_SECONDS: Final = 60.0
BATCH: Final = 500

_WHY = "workers collect what models of any tenant use no more"
_ACTOR = system("garbage")
_SHA256_CHARACTERS: Final = 64
_UNDER_WAY: Final = (ImportStatus.QUEUED.value, ImportStatus.RUNNING.value)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one collector, and no other, removes.

    Attributes:
        moment: `doomed_at` of its rows, by which it knows them for its own.
        taken: time.monotonic() just before.
        bare: uploads whose content, should it lie in the store, is nobody's.
    """

    tenant_id: uuid.UUID
    moment: datetime
    taken: float
    blobs: tuple[Blob, ...] = ()
    uploads: tuple[Upload, ...] = ()
    bare: frozenset[uuid.UUID] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.blobs or self.uploads)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What has been removed. `failed`: what the store did not let go; it is tried again when the lease is over."""

    contents: int = 0
    uploads: int = 0
    bytes: int = 0
    failed: int = 0

    def __add__(self, other: Collected) -> Collected:
        return Collected(
            contents=self.contents + other.contents,
            uploads=self.uploads + other.uploads,
            bytes=self.bytes + other.bytes,
            failed=self.failed + other.failed,
        )


def collect(*, tenant_id: uuid.UUID, until: float = float("inf"), now: Clock = clock.now) -> Collected:
    """Removes everything of a tenant that nothing refers to and nobody may be about to, or as much as can be until
    time.monotonic() is `until`. Stops where the store fails."""
    collected = Collected()
    while time.monotonic() < until and not collected.failed:
        claimed = claim(tenant_id=tenant_id, now=now)
        if not claimed:
            break
        collected += finish(claimed)
    return collected


def finish(claimed: Claim) -> Collected:
    """The second and third step."""
    removed = remove(claimed)
    forget(removed)
    collected = Collected(
        contents=len(removed.blobs),
        uploads=len(removed.uploads),
        bytes=sum(blob.size for blob in removed.blobs),
        failed=len(claimed.blobs) + len(claimed.uploads) - len(removed.blobs) - len(removed.uploads),
    )
    log.info("garbage_collected", tenant_id=str(claimed.tenant_id), **vars(collected))
    return collected


def claim(*, tenant_id: uuid.UUID, now: Clock = clock.now) -> Claim:
    """The first step: dooms at most BATCH contents and BATCH uploads, and takes over what was left doomed."""
    with tenant_scope(tenant_id):  # this looks at everything the tenant has; under the lock only at what was found
        moment = now()
        ended = [upload.pk for upload in _ended(tenant_id, moment)[:BATCH]]
        found = [blob.pk for rows in _removable(tenant_id, moment) for blob in rows.only("pk")[:BATCH]]
    taken = time.monotonic()
    if not found and not ended:
        return Claim(tenant_id=tenant_id, moment=moment, taken=taken)
    with accounts.locked(tenant_id):
        moment = now()
        uploads = list(_ended(tenant_id, moment).filter(pk__in=ended))
        Upload.objects.filter(pk__in=[upload.pk for upload in uploads]).update(doomed_at=moment)
        blobs = [blob for rows in _removable(tenant_id, moment) for blob in rows.filter(pk__in=found)]
        Blob.objects.filter(pk__in=[blob.pk for blob in blobs]).update(doomed_at=moment)
        bare = _bare(tenant_id, uploads)
    return Claim(tenant_id=tenant_id, moment=moment, taken=taken, blobs=tuple(blobs), uploads=tuple(uploads), bare=bare)


def upload_claim(upload: Upload) -> Claim:
    """Dooms one upload that is under way. Part of a transaction that holds the tenant's account; `finish` it after."""
    taken, moment = time.monotonic(), clock.now()
    Upload.objects.filter(pk=upload.pk).update(doomed_at=moment)
    return Claim(
        tenant_id=upload.tenant_id,
        moment=moment,
        taken=taken,
        uploads=(upload,),
        bare=_bare(upload.tenant_id, [upload]),
    )


def unreferenced(tenant_id: uuid.UUID) -> QuerySet[Blob]:
    """Content that no revision refers to, though somebody may be about to. Read inside the tenant's scope."""
    files = ModelFile.objects.filter(tenant_id=tenant_id, sha256=OuterRef("sha256"))
    return Blob.objects.filter(~Exists(files), tenant_id=tenant_id)


def given_up(tenant_id: uuid.UUID, *, by: datetime) -> QuerySet[Blob]:
    """Of unreferenced content what need not be kept beyond that moment. What an import has brought is kept until it
    has ended. Read inside the tenant's scope."""
    brought = ImportFile.objects.filter(
        tenant_id=tenant_id, sha256=OuterRef("sha256"), model_import__status__in=_UNDER_WAY
    )
    return unreferenced(tenant_id).filter(~Exists(brought), doomed_at=None, keep_until__lte=by)


def _removable(tenant_id: uuid.UUID, moment: datetime) -> tuple[QuerySet[Blob], QuerySet[Blob]]:
    """Unused content, and what was left doomed. The latter may be referred to: its bytes were found to be others'
    (verification.py)."""
    unused = given_up(tenant_id, by=moment).filter(~Exists(_protecting(tenant_id)))
    return unused, Blob.objects.filter(tenant_id=tenant_id, doomed_at__lte=moment - LEASE)


def _ended(tenant_id: uuid.UUID, moment: datetime) -> QuerySet[Upload]:
    ended = Q(doomed_at=None, expires_at__lte=moment) | Q(doomed_at__lte=moment - LEASE)
    return Upload.objects.filter(ended, tenant_id=tenant_id)


def _protecting(tenant_id: uuid.UUID) -> QuerySet[Upload]:
    """Uploads that keep a content from being doomed."""
    same = Q(sha256=OuterRef("sha256")) | Q(sha256="", size=OuterRef("size"))
    return Upload.objects.filter(same, tenant_id=tenant_id, doomed_at=None)


def _bare(tenant_id: uuid.UUID, uploads: Iterable[Upload]) -> frozenset[uuid.UUID]:
    """Those of doomed uploads whose content no row speaks of and no other upload may turn out to be."""
    named = {upload.sha256: upload for upload in uploads if upload.sha256}
    known = set(Blob.objects.filter(tenant_id=tenant_id, sha256__in=named).values_list("sha256", flat=True))
    sizes = set(Upload.objects.filter(tenant_id=tenant_id, sha256="", doomed_at=None).values_list("size", flat=True))
    return frozenset(upload.pk for sha256, upload in named.items() if sha256 not in known and upload.size not in sizes)


def remove(claimed: Claim) -> Claim:
    """The second step: removes bytes, each while the claim is surely held. Returns the claim on what has been removed;
    the rest stays doomed."""
    store = object_store()
    removed: set[uuid.UUID] = set()
    current, held = claimed, _keys(claimed)
    rows: tuple[Blob | Upload, ...] = (*claimed.uploads, *claimed.blobs)
    for row in rows:
        if time.monotonic() - current.taken > RENEW_SECONDS:
            current = _renewed(current)
            held = _keys(current)
        if row.pk not in held:
            continue
        try:
            _remove(store, row, bare=row.pk in claimed.bare)
        except (FreeholdError, OSError) as error:
            log.warning("garbage_not_removed", tenant_id=str(row.tenant_id), sha256=row.sha256, error=str(error))
        else:
            removed.add(row.pk)
    return _narrowed(current, removed)


def _remove(store: ObjectStore, row: Blob | Upload, *, bare: bool) -> None:
    if isinstance(row, Upload) and row.multipart_id:
        store.multipart_abort(row.multipart)
    if isinstance(row, Blob) or bare:
        store.delete(row.tenant_id, row.sha256)


def _keys(claimed: Claim) -> set[uuid.UUID]:
    return {row.pk for row in (*claimed.uploads, *claimed.blobs)}


def _narrowed(claimed: Claim, keys: set[uuid.UUID]) -> Claim:
    return replace(
        claimed,
        blobs=tuple(blob for blob in claimed.blobs if blob.pk in keys),
        uploads=tuple(upload for upload in claimed.uploads if upload.pk in keys),
    )


def _renewed(claimed: Claim) -> Claim:
    """The claim on what nobody has taken over, from now on."""
    taken, held = time.monotonic(), set()
    with accounts.locked(claimed.tenant_id):
        moment = clock.now()
        for rows in (Blob.objects.all(), Upload.objects.all()):
            ours = rows.filter(pk__in=_keys(claimed), doomed_at=claimed.moment)
            held |= set(ours.values_list("pk", flat=True))
            ours.update(doomed_at=moment)
    return replace(_narrowed(claimed, held), moment=moment, taken=taken)


def forget(removed: Claim) -> None:
    """The third step: the rows go, and with them what was known of their content."""
    if not removed:
        return
    with accounts.locked(removed.tenant_id) as account:
        blobs = Blob.objects.filter(pk__in=[blob.pk for blob in removed.blobs], doomed_at=removed.moment)
        gone = dict(blobs.values_list("sha256", "size"))
        WeightHeader.objects.filter(tenant_id=removed.tenant_id, sha256__in=gone).delete()
        blobs.delete()
        Upload.objects.filter(pk__in=[row.pk for row in removed.uploads], doomed_at=removed.moment).delete()
        if gone:
            detail: dict[str, object] = {"contents": len(gone), "bytes": sum(gone.values())}
            audit_record(
                actor=_ACTOR,
                tenant_id=removed.tenant_id,
                action="storage.collect",
                object_id=account.public_id,
                detail=detail,
            )


def leftovers_collect(*, tenant_id: uuid.UUID, until: float = float("inf"), now: Clock = clock.now) -> Collected:
    """Removes content in the store that no row speaks of, and that has been there for as long as an upload is kept: a
    process died between moving bytes and saying so, or an upload was cancelled while its last bytes came."""
    collected = Collected()
    before = now() - keep_for()
    old = (entry for entry in object_store().listing(tenant_id) if entry.modified_at < before)
    for some in _batches(old):
        if time.monotonic() > until or collected.failed:
            break
        if unknown := _unknown(tenant_id, some):
            collected += finish(_leftovers_claim(tenant_id, unknown))
    return collected


def _batches(entries: Iterator[Stored]) -> Iterator[list[Stored]]:
    while some := list(islice(entries, BATCH)):
        yield [entry for entry in some if len(entry.sha256) == _SHA256_CHARACTERS]


def _unknown(tenant_id: uuid.UUID, entries: Sequence[Stored]) -> list[Stored]:
    names = [entry.sha256 for entry in entries]
    with tenant_scope(tenant_id):
        known: set[str] = set()
        for rows in (Blob.objects.all(), Upload.objects.all(), ModelFile.objects.all()):
            known |= set(rows.filter(tenant_id=tenant_id, sha256__in=names).values_list("sha256", flat=True))
        sizes = set(
            Upload.objects.filter(tenant_id=tenant_id, sha256="", doomed_at=None).values_list("size", flat=True)
        )
    return [entry for entry in entries if entry.sha256 not in known and entry.size not in sizes]


def _leftovers_claim(tenant_id: uuid.UUID, entries: Sequence[Stored]) -> Claim:
    """Gives each a doomed row, so that whoever wants to upload it meanwhile waits."""
    taken = time.monotonic()
    with accounts.locked(tenant_id):
        moment = clock.now()
        blobs = Blob.objects.bulk_create(
            [
                Blob(tenant_id=tenant_id, sha256=entry.sha256, size=entry.size, keep_until=moment, doomed_at=moment)
                for entry in _unknown(tenant_id, entries)
            ]
        )
    return Claim(tenant_id=tenant_id, moment=moment, taken=taken, blobs=tuple(blobs))


def tenants() -> list[uuid.UUID]:
    """Tenants that keep anything, each time in another order: nobody is always the last one."""
    with system_scope(_WHY):
        keeps = Exists(Blob.objects.filter(tenant_id=OuterRef("pk")))
        uploads = Exists(Upload.objects.filter(tenant_id=OuterRef("pk")))
        found = list(Tenant.objects.filter(keeps | uploads).values_list("pk", flat=True))
    random.shuffle(found)
    return found


def tenants_all() -> list[Tenant]:
    """Every tenant, by slug: leftovers may be all that one has."""
    with system_scope(_WHY):
        return list(Tenant.objects.order_by("slug"))


def tenants_shuffled() -> list[uuid.UUID]:
    """Every tenant, as `tenants`."""
    found = [tenant.pk for tenant in tenants_all()]
    random.shuffle(found)
    return found
