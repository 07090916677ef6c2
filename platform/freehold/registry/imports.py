"""Imports: asked for, watched, cancelled and retried by people; claimed and carried out by workers (workers/jobs).

What an import has brought stays when it fails: a retry asks the source again and moves only what is missing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, Sum

from freehold.common import clock
from freehold.common.errors import Conflict, InvalidInput, NotFound
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import names, selectors
from freehold.registry.choices import IMPORT_TRANSITIONS, ImportFileStatus, ImportKind, ImportStatus, RefKind
from freehold.registry.contents import keep_for
from freehold.registry.models import ImportFile, ModelImport, ModelRepo, Upload
from freehold.registry.services import model_create
from freehold.registry.sources.configured import source_of
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import hints

if TYPE_CHECKING:
    from django.db.models import QuerySet

LEASE: Final = timedelta(seconds=120)
AT_ONCE_OF_A_TENANT: Final = 20  # queued or running
MOST_ATTEMPTS: Final = 12
PATTERNS: Final = 100

_FIELDS: Final[Mapping[ImportKind, tuple[frozenset[str], frozenset[str]]]] = {  # required, optional
    ImportKind.HUB: (frozenset({"url", "repo"}), frozenset({"revision"})),
    ImportKind.S3: (frozenset({"bucket"}), frozenset({"endpoint_url", "region", "prefix"})),
}
_SECRETS: Final[Mapping[ImportKind, frozenset[str]]] = {
    ImportKind.HUB: frozenset({"token"}),
    ImportKind.S3: frozenset({"access_key_id", "secret_access_key", "session_token"}),
}


@dataclass(frozen=True, kw_only=True)
class ImportProgress:
    """How far an import is. Bytes and files of what was selected; skipped files count for nothing."""

    files_total: int
    files_done: int
    files_skipped: int
    bytes_total: int
    bytes_done: int


class LostClaim(Exception):
    """Another worker has taken over, or the import is gone: stop, and write nothing."""


class TenantSuspended(Exception):
    """The operator has suspended the tenant: the import waits."""


@dataclass(frozen=True, kw_only=True)
class ImportClaim:
    """An import that this worker, and no other, works on until the lease ends; `import_beat` extends it."""

    model_import: ModelImport
    token: uuid.UUID

    @property
    def actor(self) -> Actor:
        """Who commits what comes: a worker, in the name of whoever asked."""
        label = f"{self.model_import.requested_by_label} (import)"
        return Actor(kind=ActorKind.SYSTEM, id=self.model_import.requested_by, label=label)

    @property
    def credentials(self) -> dict[str, str]:
        """The source's secrets."""
        secrets: dict[str, str] = json.loads(self.model_import.credentials or "{}")
        return secrets


def import_create(
    *,
    actor: Actor,
    tenant_id: uuid.UUID,
    name: str,
    kind: ImportKind,
    source: Mapping[str, str],
    credentials: Mapping[str, str] | None = None,
    ref: str = names.DEFAULT_BRANCH,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    remove_remote_code: bool = False,
) -> ModelImport:
    """Begins to bring a model in from elsewhere, to the branch `ref` of the model `name`, which is made if need be.

    With `remove_remote_code` what would make an engine run Python from the repo is taken out of its configurations;
    else a model with that is refused at the end. Whether an address may be reached is decided when it is
    (registry.sources.guard). Raises InvalidInput and OutboundRefused naming the field, Conflict where an import to the
    same branch is under way or there are too many.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    names.check_repo_name(name)
    _check_fields(kind, source, credentials or {})
    _check_patterns(include, field="include")
    _check_patterns(exclude, field="exclude")
    source_of(kind, source, credentials or {}).close()
    repo = _repo(actor, tenant_id, name, ref)
    with tenant_scope(tenant_id):
        _check_alone(repo, ref)
        created = ModelImport.objects.create(
            tenant_id=tenant_id,
            repo=repo,
            ref=ref,
            kind=kind.value,
            source=dict(source),
            credentials=json.dumps(dict(credentials)) if credentials else "",
            include=list(include),
            exclude=list(exclude),
            remove_remote_code=remove_remote_code,
            requested_by=actor.id,
            requested_by_label=actor.label,
        )
        detail: dict[str, object] = {"model": repo.public_id, "kind": kind.value, **source}
        audit_record(
            actor=actor, tenant_id=tenant_id, action="import.create", object_id=created.public_id, detail=detail
        )
        transaction.on_commit(partial(hints.send, hints.IMPORT, queue=hints.TRANSFERS))
    return import_get(tenant_id=tenant_id, import_id=created.pk)


def import_cancel(*, actor: Actor, tenant_id: uuid.UUID, import_id: uuid.UUID) -> ModelImport:
    """Ends an import at the next opportunity; what has come is kept for a retry, then collected. Twice is once.

    Raises NotFound, Conflict where it has ended already.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    with tenant_scope(tenant_id):
        found = _locked(import_id)
        if found.status == ImportStatus.CANCELLED:
            return import_get(tenant_id=tenant_id, import_id=import_id)
        if found.status not in {ImportStatus.QUEUED, ImportStatus.RUNNING}:
            raise Conflict(f"This import has {found.status} already.")
        found.cancel_requested_at = clock.now()
        if found.status == ImportStatus.QUEUED:
            _end(found, ImportStatus.CANCELLED, "Cancelled.")
        found.save()
        audit_record(actor=actor, tenant_id=tenant_id, action="import.cancel", object_id=found.public_id)
    return import_get(tenant_id=tenant_id, import_id=import_id)


def import_retry(
    *, actor: Actor, tenant_id: uuid.UUID, import_id: uuid.UUID, credentials: Mapping[str, str] | None = None
) -> ModelImport:
    """Queues an import again that has failed or was cancelled; new credentials replace the old ones.

    The source is asked anew; content that is here is not moved again. Raises NotFound, InvalidInput, Conflict.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    with tenant_scope(tenant_id):
        found = _locked(import_id)
        if found.status not in {ImportStatus.FAILED, ImportStatus.CANCELLED}:  # a running one queues itself
            raise Conflict(f"This import is {found.status}: there is nothing to retry.")
        _check_alone(found.repo, found.ref)
        if credentials is not None:
            _check_fields(ImportKind(found.kind), found.source, credentials)
            found.credentials = json.dumps(dict(credentials)) if credentials else ""
        found.status, found.message, found.attempts, found.pinned = ImportStatus.QUEUED.value, "", 0, ""
        found.cancel_requested_at = found.finished_at = None
        found.next_attempt_at = clock.now()
        found.save()
        audit_record(actor=actor, tenant_id=tenant_id, action="import.retry", object_id=found.public_id)
        transaction.on_commit(partial(hints.send, hints.IMPORT, queue=hints.TRANSFERS))
    return import_get(tenant_id=tenant_id, import_id=import_id)


def credentials_forget() -> int:
    """Deletes the secrets of imports that nobody has retried for as long as what they brought is kept. Run by workers;
    returns how many there were."""
    with system_scope("workers forget the secrets of every tenant's imports"):
        ended = ModelImport.objects.filter(finished_at__lt=clock.now() - keep_for()).exclude(credentials="")
        return ended.update(credentials="")


def import_list(*, tenant_id: uuid.UUID) -> QuerySet[ModelImport]:
    """A tenant's imports, newest first. Read inside the tenant's scope."""
    imports = ModelImport.objects.filter(tenant_id=tenant_id)
    return imports.select_related("repo__tenant", "revision").order_by("-id")


def import_get(*, tenant_id: uuid.UUID, import_id: uuid.UUID) -> ModelImport:
    """An import with its repo. Raises NotFound, also for another tenant's."""
    with tenant_scope(tenant_id):
        found = import_list(tenant_id=tenant_id).filter(pk=import_id).first()
    if found is None:
        raise NotFound("There is no such import.")
    return found


def import_progress(imports: Iterable[ModelImport]) -> dict[uuid.UUID, ImportProgress]:
    """How far each is, by primary key. Read inside the tenant's scope."""
    selected = ~Q(status=ImportFileStatus.SKIPPED.value)
    rows = (
        ImportFile.objects.filter(model_import__in=[each.pk for each in imports])
        .values("model_import_id")
        .annotate(
            files_total=Count("pk", filter=selected),
            files_done=Count("pk", filter=Q(status=ImportFileStatus.DONE.value)),
            files_skipped=Count("pk", filter=~selected),
            bytes_total=Sum("size", filter=selected, default=0),
            bytes_done=Sum("received", filter=selected, default=0),
        )
    )
    found = {
        row["model_import_id"]: ImportProgress(
            files_total=row["files_total"],
            files_done=row["files_done"],
            files_skipped=row["files_skipped"],
            bytes_total=row["bytes_total"],
            bytes_done=row["bytes_done"],
        )
        for row in rows
    }
    nothing = ImportProgress(files_total=0, files_done=0, files_skipped=0, bytes_total=0, bytes_done=0)
    return {each.pk: found.get(each.pk, nothing) for each in imports}


def import_files(
    *, tenant_id: uuid.UUID, import_id: uuid.UUID, first: int = 0, most: int | None = None
) -> list[ImportFile]:
    """The files of an import, by path: all, or `most` from the one at `first` on."""
    with tenant_scope(tenant_id):
        files = ImportFile.objects.filter(model_import_id=import_id).select_related("upload").order_by("path")
        return list(files[first : None if most is None else first + most])


# Workers


def import_claim() -> ImportClaim | None:
    """Takes the import that has waited longest and that nobody works on, or None. Suspended tenants' wait; those of
    tenants that a worker is busy with already let others go first."""
    moment, token = clock.now(), uuid.uuid4()
    with system_scope("workers carry out the imports of every tenant"):
        due = (
            ModelImport.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(status__in=[ImportStatus.QUEUED.value, ImportStatus.RUNNING.value], next_attempt_at__lte=moment)
            .filter(Q(lock_token=None) | Q(lock_expires_at__lt=moment), tenant__suspended_at=None)
            .select_related("repo__tenant")
            .order_by(Exists(_worked_on(moment).filter(tenant_id=OuterRef("tenant_id"))), "next_attempt_at")
            .first()
        )
        if due is None:
            return None
        due.lock_token, due.lock_expires_at, due.status = token, moment + LEASE, ImportStatus.RUNNING.value
        due.started_at = due.started_at or moment
        due.save()
    return ImportClaim(model_import=due, token=token)


def import_keep(*, claim: ImportClaim) -> None:
    """Extends the claim. Raises LostClaim."""
    with tenant_scope(claim.model_import.tenant_id):
        held = ModelImport.objects.filter(pk=claim.model_import.pk, lock_token=claim.token)
        if not held.update(lock_expires_at=clock.now() + LEASE):
            raise LostClaim


def import_beat(*, claim: ImportClaim) -> bool:
    """Extends the claim. Returns whether to go on: False where somebody asked to cancel. Raises LostClaim,
    TenantSuspended."""
    import_keep(claim=claim)
    with tenant_scope(claim.model_import.tenant_id):
        found = ModelImport.objects.filter(pk=claim.model_import.pk).select_related("tenant").first()
    if found is None:
        raise LostClaim
    if found.cancel_requested_at is None and found.tenant.suspended_at is not None:
        raise TenantSuspended
    return found.cancel_requested_at is None


def import_attempts(*, claim: ImportClaim) -> int:
    """Tries in a row that brought nothing. Raises LostClaim."""
    with tenant_scope(claim.model_import.tenant_id):
        return _held(claim).attempts


def import_files_set(*, claim: ImportClaim, pinned: str, files: Sequence[ImportFile]) -> list[ImportFile]:
    """Writes down what the source holds, and returns it by path. What an earlier try brought of the same content (path,
    size and ETag are the same) is known again, also where the source names no hashes. Raises LostClaim."""
    with tenant_scope(claim.model_import.tenant_id):
        _held(claim)
        earlier = ImportFile.objects.filter(model_import=claim.model_import)
        brought = {
            (file.path, file.size, file.etag): file for file in earlier.exclude(etag="").select_related("upload")
        }
        for file in files:
            known = brought.get((file.path, file.size, file.etag))
            if known is not None and not file.sha256 and not known.note:
                file.sha256, file.upload, file.received = known.sha256, known.upload, 0
        earlier.delete()
        ImportFile.objects.bulk_create(files, batch_size=1000)
        ModelImport.objects.filter(pk=claim.model_import.pk).update(pinned=pinned)
    claim.model_import.pinned = pinned
    return sorted(files, key=lambda file: file.path)


def import_uploads_keep(*, claim: ImportClaim) -> None:
    """Of content without a hash nobody else would ask for the upload again: one that takes days must not run out."""
    moment = clock.now()
    with tenant_scope(claim.model_import.tenant_id):
        ours = ImportFile.objects.filter(model_import=claim.model_import, status=ImportFileStatus.PENDING.value)
        live = Upload.objects.filter(pk__in=ours.values("upload_id"), doomed_at=None, expires_at__gt=moment)
        live.update(expires_at=moment + keep_for())


def import_file_record(*, claim: ImportClaim, file: ImportFile, progress: bool = True) -> None:
    """Writes down how far a file is; an import that gets on has its attempts forgotten. Raises LostClaim."""
    with tenant_scope(claim.model_import.tenant_id):
        _held(claim)
        file.save(update_fields=["size", "sha256", "git_oid", "upload", "received", "status", "note"])
        if progress:
            _got_on(claim)


def import_file_received(*, claim: ImportClaim, file: ImportFile, received: int, stays: bool = False) -> None:
    """Writes down how many bytes of a file are here. Only where they stay whatever comes (`stays`) has the import got
    on: a source that breaks off every time in the same part is given up in the end. Raises LostClaim."""
    with tenant_scope(claim.model_import.tenant_id):
        _held(claim)
        file.received = received
        file.save(update_fields=["received"])  # not its upload, which another import may have finished
        if stays:
            _got_on(claim)


def _got_on(claim: ImportClaim) -> None:
    ModelImport.objects.filter(pk=claim.model_import.pk).exclude(attempts=0).update(attempts=0)


def import_finish(
    *, claim: ImportClaim, status: ImportStatus, message: str = "", revision_id: uuid.UUID | None = None
) -> None:
    """The end: SUCCEEDED, FAILED or CANCELLED. Raises LostClaim."""
    with tenant_scope(claim.model_import.tenant_id):
        found = _held(claim)
        _end(found, status, message)
        found.revision_id = revision_id
        found.save()
        detail: dict[str, object] = {"status": status.value, "message": message[:500]}
        audit_record(
            actor=claim.actor,
            tenant_id=found.tenant_id,
            action="import.finish",
            object_id=found.public_id,
            detail=detail,
        )


def import_pause(*, claim: ImportClaim, seconds: float, message: str = "", failed: bool = False) -> None:
    """Gives the claim back until later. With `failed` it counts as an attempt, and the last one is the end."""
    with tenant_scope(claim.model_import.tenant_id):
        found = _held(claim)
        if failed:
            found.attempts += 1
        if found.cancel_requested_at is not None:
            _end(found, ImportStatus.CANCELLED, "Cancelled.")
        elif found.attempts >= MOST_ATTEMPTS:
            _end(found, ImportStatus.FAILED, f"{message} Given up after {MOST_ATTEMPTS} attempts; retry it later.")
        else:
            found.status, found.message = ImportStatus.QUEUED.value, message
            found.lock_token = found.lock_expires_at = None
            found.next_attempt_at = clock.now() + timedelta(seconds=seconds)
        found.save()


def imports_due(*, now: datetime) -> bool:
    """Whether a worker would find something to do."""
    with system_scope("workers carry out the imports of every tenant"):
        return (
            ModelImport.objects.filter(
                status__in=[ImportStatus.QUEUED.value, ImportStatus.RUNNING.value], next_attempt_at__lte=now
            )
            .filter(Q(lock_token=None) | Q(lock_expires_at__lt=now), tenant__suspended_at=None)
            .exists()
        )


def _worked_on(moment: datetime) -> QuerySet[ModelImport]:
    """Imports that a worker holds."""
    return ModelImport.objects.filter(status=ImportStatus.RUNNING.value, lock_expires_at__gt=moment)


def _held(claim: ImportClaim) -> ModelImport:
    found = ModelImport.objects.select_for_update().filter(pk=claim.model_import.pk, lock_token=claim.token).first()
    if found is None:
        raise LostClaim
    return found


def _end(found: ModelImport, status: ImportStatus, message: str) -> None:
    if status not in IMPORT_TRANSITIONS[ImportStatus(found.status)]:
        raise Conflict(f"An import cannot go from {found.status} to {status}.")
    found.status, found.message, found.finished_at = status.value, message, clock.now()
    found.lock_token = found.lock_expires_at = None
    if status is ImportStatus.SUCCEEDED:
        found.credentials = ""  # nobody needs them any more


def _locked(import_id: uuid.UUID) -> ModelImport:
    found = ModelImport.objects.select_for_update().filter(pk=import_id).first()
    if found is None:
        raise NotFound("There is no such import.")
    return found


def _repo(actor: Actor, tenant_id: uuid.UUID, name: str, ref: str) -> ModelRepo:
    """The model, which is made only where nothing else is wrong: a refusal leaves nothing behind."""
    names.check_ref_name(ref)
    missing = InvalidInput(f"The model {name!r} has no branch {ref!r}. Create it first.", field="branch")
    try:
        repo = selectors.model_find(tenant_id=tenant_id, name=name)
    except NotFound:
        if ref != names.DEFAULT_BRANCH:
            raise missing from None
        with tenant_scope(tenant_id):
            _check_count()
        return model_create(actor=actor, tenant_id=tenant_id, name=name)
    if not any(each.name == ref and each.kind == RefKind.BRANCH for each in selectors.ref_list(model=repo)):
        raise missing
    return repo


def _check_alone(repo: ModelRepo, ref: str) -> None:
    """Raises Conflict where an import to the same branch is under way, or too many are. Holds the repo's lock."""
    ModelRepo.objects.select_for_update().get(pk=repo.pk)
    if _live().filter(repo=repo, ref=ref).exists():
        raise Conflict(f"An import to the branch {ref!r} of {repo.name!r} is under way. Wait for it, or cancel it.")
    _check_count()


def _check_count() -> None:
    if _live().count() >= AT_ONCE_OF_A_TENANT:
        raise Conflict(f"Your tenant has {AT_ONCE_OF_A_TENANT} imports under way. Wait for one to end.")


def _live() -> QuerySet[ModelImport]:
    return ModelImport.objects.filter(status__in=[ImportStatus.QUEUED.value, ImportStatus.RUNNING.value])


def _check_fields(kind: ImportKind, source: Mapping[str, str], credentials: Mapping[str, str]) -> None:
    required, optional = _FIELDS[kind]
    for name in sorted(required):
        if not source.get(name):
            raise InvalidInput(f"An import from {_NAMES[kind]} needs {name!r}.", field=name)
    for given, known in ((source, required | optional), (credentials, _SECRETS[kind])):
        for name, value in given.items():
            if name not in known:
                raise InvalidInput(
                    f"An import from {_NAMES[kind]} has no {name!r}. It has: {', '.join(sorted(known))}.", field=name
                )
            names.check_text(value, field=name)


_NAMES: Final[Mapping[ImportKind, str]] = {ImportKind.HUB: "a hub", ImportKind.S3: "S3"}


def _check_patterns(patterns: Sequence[str], *, field: str) -> None:
    if len(patterns) > PATTERNS:
        raise InvalidInput(f"{field} has at most {PATTERNS} patterns.", field=field)
    for pattern in patterns:
        names.check_text(pattern, field=field)
