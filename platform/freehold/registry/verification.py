"""Content that nobody has hashed yet: claimed by workers, hashed by them (workers/jobs/storage.py), settled here.

Rows are the truth. A claim is a moment until which its holder works alone; whoever writes must still hold it. From the
verdict on a content follows that on every revision that waits for it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import Exists, OuterRef, Q, Sum

from freehold.common import clock
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import accounts, garbage
from freehold.registry.choices import RevisionStatus
from freehold.registry.inspection.problems import Problem
from freehold.registry.models import Blob, ModelFile, Revision
from freehold.tenancy.actors import system
from freehold.tenancy.services import audit_record

if TYPE_CHECKING:
    import uuid

    from django.db.models import QuerySet

    from freehold.common.clock import Clock

LEASE: Final = timedelta(minutes=3)

_ACTOR = system("verification")
_WHY = "workers hash the content of every tenant"


class LostClaim(Exception):
    """Another worker has taken over, or the content is gone: stop, and write nothing."""


@dataclass(frozen=True, kw_only=True)
class ContentClaim:
    """Content that this worker, and no other, hashes until `until`; `content_beat` extends it."""

    blob_id: uuid.UUID
    tenant_id: uuid.UUID
    sha256: str
    size: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Found:
    """What reading a content has shown. `sha256` is None where the store has none, or of another size (then it need not
    be read)."""

    sha256: str | None
    size: int | None


def content_claim(*, now: Clock = clock.now) -> ContentClaim | None:
    """Takes the content that has waited longest, of a tenant for whom nobody works if there is one. None: all is done,
    or in somebody's hands."""
    moment = now()
    with system_scope(_WHY):
        busy = Blob.objects.filter(verify_claimed_until__gte=moment).values("tenant_id")
        free = _unclaimed(moment).select_for_update(skip_locked=True).order_by("created_at")
        blob = free.exclude(tenant_id__in=busy).first() or free.first()
        if blob is None:
            return None
        claim = ContentClaim(
            blob_id=blob.pk, tenant_id=blob.tenant_id, sha256=blob.sha256, size=blob.size, until=moment + LEASE
        )
        Blob.objects.filter(pk=blob.pk).update(verify_claimed_until=claim.until)
    return claim


def contents_waiting(*, now: Clock = clock.now) -> bool:
    """Whether a worker would find something to do."""
    with system_scope(_WHY):
        return _unclaimed(now()).exists()


def content_beat(*, claim: ContentClaim, now: Clock = clock.now) -> ContentClaim:
    """The claim, extended. Raises LostClaim."""
    longer = replace(claim, until=now() + LEASE)
    with tenant_scope(claim.tenant_id):
        if not _held(claim).update(verify_claimed_until=longer.until):
            raise LostClaim
    return longer


def content_release(*, claim: ContentClaim) -> None:
    """Gives the claim back, so that another worker need not wait for its end."""
    with tenant_scope(claim.tenant_id):
        _held(claim).update(verify_claimed_until=None)


def content_settle(*, claim: ContentClaim, found: Found, now: Clock = clock.now) -> bool:
    """Writes down what was found, and what follows for revisions. Returns whether the content is what it was declared
    to be; else it is removed from the store, by the garbage collector where the store fails. Raises LostClaim."""
    if found.sha256 == claim.sha256 and found.size == claim.size:
        with accounts.locked(claim.tenant_id):
            if not _held(claim).update(verified_at=now(), verify_claimed_until=None):
                raise LostClaim
            _settle(Revision.objects.filter(tenant_id=claim.tenant_id, files__sha256=claim.sha256))
        return True
    garbage.finish(_refuse(claim, found, now()))
    return False


def revisions_settle() -> int:
    """Ends the wait of revisions whose content was all hashed by somebody else, such as a second upload of it. Returns
    how many there were."""
    with system_scope(_WHY):
        tenants = list(_ready(Revision.objects.all()).values_list("tenant_id", flat=True).distinct())
    settled = 0
    for tenant_id in tenants:
        with accounts.locked(tenant_id):
            settled += _settle(Revision.objects.filter(tenant_id=tenant_id))
    return settled


def verification_progress(*, revision: Revision) -> tuple[int, int]:
    """Bytes of a revision that are hashed, and all of its bytes; content that it holds twice counts once."""
    with tenant_scope(revision.tenant_id):
        sizes = dict(ModelFile.objects.filter(revision_id=revision.pk).values_list("sha256", "size"))
        hashed = Blob.objects.filter(sha256__in=list(sizes), verified_at__isnull=False, doomed_at=None)
        done: int = hashed.aggregate(total=Sum("size", default=0))["total"]
    return done, sum(sizes.values())


def undeployable(*, revision: Revision, model: str) -> str:
    """Why a revision that is not verified cannot be served, and what to do; `model` as the caller named it."""
    which = f"The revision {revision.commit_id[:12]} of {model}"
    if revision.status == RevisionStatus.VERIFYING:
        done, total = verification_progress(revision=revision)
        return (
            f"{which} is still being verified: {accounts.in_words(done)} of {accounts.in_words(total)} are hashed. "
            "Deploy it when it is done."
        )
    if revision.status == RevisionStatus.REFUSED:
        problems = [str(Problem(**problem)) for problem in revision.inspection.get("problems", [])]
        more = f" And {len(problems) - 1} more files." if len(problems) > 1 else ""
        return f"{which} is refused, so it cannot be served. {''.join(problems[:1])}{more}"
    return (
        f"{which} is {revision.status}, so it cannot be served. Upload what is missing (weights as safetensors, "
        "config.json) and deploy the new revision."
    )


def _unclaimed(moment: datetime) -> QuerySet[Blob]:
    free = Q(verify_claimed_until=None) | Q(verify_claimed_until__lt=moment)
    return Blob.objects.filter(free, verified_at=None, doomed_at=None)


def _held(claim: ContentClaim) -> QuerySet[Blob]:
    return Blob.objects.filter(pk=claim.blob_id, verify_claimed_until=claim.until, verified_at=None, doomed_at=None)


def _ready(revisions: QuerySet[Revision]) -> QuerySet[Revision]:
    """Those that wait for nothing any more."""
    unhashed = Blob.objects.filter(tenant_id=OuterRef("tenant_id"), sha256=OuterRef("sha256"), verified_at=None)
    waiting = ModelFile.objects.filter(revision_id=OuterRef("pk")).filter(Exists(unhashed))
    return revisions.filter(~Exists(waiting), status=RevisionStatus.VERIFYING.value)


def _settle(revisions: QuerySet[Revision]) -> int:
    """Part of a transaction that holds the tenant's account: no content becomes unverified meanwhile."""
    settled = 0
    for revision in _ready(revisions).distinct().order_by("pk"):
        status = RevisionStatus.INCOMPLETE if revision.inspection.get("missing") else RevisionStatus.VERIFIED
        waiting = Revision.objects.filter(pk=revision.pk, status=RevisionStatus.VERIFYING.value)
        if waiting.update(status=status.value):
            settled += 1
            _audit(revision, "revision.verify", {"commit": revision.commit_id, "status": status.value})
    return settled


def _refuse(claim: ContentClaim, found: Found, moment: datetime) -> garbage.Claim:
    """Dooms the content, which nobody can refer to from here on, and refuses the revisions that do."""
    taken = time.monotonic()
    with accounts.locked(claim.tenant_id):
        blob = _held(claim).first()
        if blob is None or not _held(claim).update(doomed_at=moment):
            raise LostClaim
        files = ModelFile.objects.filter(tenant_id=claim.tenant_id, sha256=claim.sha256)
        hit = files.filter(revision__status__in=[RevisionStatus.VERIFYING.value, RevisionStatus.REFUSED.value])
        paths: dict[uuid.UUID, list[str]] = {}
        for revision_id, path in hit.order_by("revision_id", "path").values_list("revision_id", "path"):
            paths.setdefault(revision_id, []).append(path)
        for revision in Revision.objects.filter(pk__in=list(paths)).order_by("pk"):
            problems = [_problem(path, claim, found) for path in paths[revision.pk]]
            inspection = dict(revision.inspection)
            inspection["problems"] = [*inspection.get("problems", []), *map(asdict, problems)]
            Revision.objects.filter(pk=revision.pk, status=revision.status).update(
                status=RevisionStatus.REFUSED.value, inspection=inspection
            )
            _audit(revision, "revision.refuse", {"commit": revision.commit_id, "files": paths[revision.pk]})
        audit_record(
            actor=_ACTOR,
            tenant_id=claim.tenant_id,
            action="blob.refuse",
            object_id=blob.public_id,
            detail={"sha256": claim.sha256, "size": claim.size, "found": found.sha256, "found_size": found.size},
        )
    return garbage.Claim(tenant_id=claim.tenant_id, moment=moment, taken=taken, blobs=(blob,))


def _problem(path: str, claim: ContentClaim, found: Found) -> Problem:
    if found.size is None:
        detail = "is gone from the object store"
    elif found.size != claim.size:
        detail = f"arrived with {found.size} bytes, not the declared {claim.size}"
    else:
        detail = f"arrived with the sha256 {found.sha256}, not the declared {claim.sha256}"
    remedy = "It was changed on its way, or while it was read. Upload it again and commit."
    return Problem(file=path, reason="hash_mismatch", detail=detail, remedy=remedy)


def _audit(revision: Revision, action: str, detail: dict[str, object]) -> None:
    audit_record(actor=_ACTOR, tenant_id=revision.tenant_id, action=action, object_id=revision.public_id, detail=detail)
