"""revision_commit: from operations to an immutable, inspected revision, or to nothing at all.

Files are read and inspected between two short transactions: the first reads the branch's head, the second writes the
revision if the head is still the same. Where it is not, everything is done again on the new head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freehold.common import clock
from freehold.common.errors import Conflict, InvalidInput, NotFound, Refused
from freehold.db.connections import release
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, digests, names, selectors, tensors, trees, turns
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.inspection.facts import ADAPTER_CONFIG, CONFIG
from freehold.registry.inspection.run import Report, inspect
from freehold.registry.models import Blob, ModelFile, ModelRepo, Ref, Revision
from freehold.registry.staging import staged
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from freehold.tenancy.actors import Actor

# What huggingface_hub's upload-large-folder writes into its commits, which come in pieces, in any order of files.
LARGE_FOLDER = "upload-large-folder"

_ATTEMPTS = 5  # against other processes: within this one, commits of a tenant wait for each other
_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A commit that is inspected and not yet written."""

    base: Revision
    tree: trees.Tree
    message: str
    description: str
    author: str
    status: RevisionStatus
    inspection: dict[str, Any]
    headers: tensors.ByPath


def revision_commit(
    *,
    actor: Actor,
    tenant_id: uuid.UUID,
    repo: str,
    operations: Sequence[trees.Operation],
    message: str,
    ref: str = names.DEFAULT_BRANCH,
    parent: str | None = None,
    description: str = "",
) -> Revision:
    """Commits to a branch of the model named `repo`. A commit that changes nothing answers with the branch's head.

    Raises Refused (files and reasons; nothing is registered), Conflict (`parent` is not the branch's head), NotFound,
    InvalidInput, RateLimited and Unavailable (too many inspections at once). A refusal leaves uploaded content in the
    store, and the branch as it was.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    names.check_text(message, field="summary")
    names.check_text(description, field="description")
    for _ in range(_ATTEMPTS):
        model = selectors.model_find(tenant_id=tenant_id, name=repo.rpartition("/")[2])
        base, tree = _planned(model, ref, parent, operations)
        if tree is None:
            return base
        release()  # a turn, and an inspection, take up to two minutes, and connections are few
        with turns.turn(tenant_id):
            if _head(model, ref).pk != base.pk:  # others had their turn meanwhile
                base, tree = _planned(model, ref, parent, operations)
                if tree is None:
                    return base
            release()
            with staged(tenant_id, tree) as files:
                report = inspect(files)
            status = _verdict(report, message)
            draft = _Draft(
                base=base,
                tree=tree,
                message=message[:500],
                description=description[:10_000],
                author=actor.label,
                status=status,
                inspection={**report.facts, "missing": list(report.missing)},
                headers=report.tensors,
            )
            revision = _register(actor=actor, model=model, ref=ref, draft=draft)
        if revision is not None:
            return selectors.revision_by_key(tenant_id=tenant_id, revision_id=revision.pk)
    raise Conflict(f"The branch {ref!r} moves too fast. Commit again.")


def _planned(
    model: ModelRepo, ref: str, parent: str | None, operations: Sequence[trees.Operation]
) -> tuple[Revision, trees.Tree | None]:
    """The branch's head, and the files it is to have; None for those where nothing changes."""
    base = _head(model, ref)
    if parent is not None and not (len(parent) >= 7 and base.commit_id.startswith(parent)):
        raise Conflict(f"The branch {ref!r} has moved on to {base.commit_id}. Fetch it and commit again.")
    before = _tree(base)
    tree = trees.apply(before, operations, _sources(model, operations))
    if tree == before and base.status != RevisionStatus.REFUSED:  # one that is refused is mended by the same again
        with accounts.locked(model.tenant_id):
            accounts.settle(tenant_id=model.tenant_id, sha256s={entry.sha256 for entry in tree.values()})
        return base, None
    _check_content(model.tenant_id, tree)
    return base, tree


def _head(model: ModelRepo, ref: str) -> Revision:
    if not names.is_holdable(ref):
        raise NotFound(f"The model {model.name!r} has no branch {ref[:200]!r}.")
    with tenant_scope(model.tenant_id):
        found = Ref.objects.filter(repo_id=model.pk, name=ref.removeprefix("refs/heads/"))
        head = found.filter(kind=RefKind.BRANCH.value).select_related("revision__repo__tenant").first()
        is_tag = head is None and found.exists()
    if is_tag or names.is_commit_id(ref):
        raise InvalidInput("A commit goes to a branch, not to a tag or another commit.", field="revision")
    if head is None:
        raise NotFound(f"The model {model.name!r} has no branch {ref!r}. Create it first.")
    return head.revision


def _tree(revision: Revision) -> trees.Tree:
    return {
        file.path: trees.Entry(sha256=file.sha256, size=file.size, oid=file.oid, lfs=file.lfs)
        for file in selectors.files(revision=revision)
    }


def _sources(model: ModelRepo, operations: Sequence[trees.Operation]) -> dict[str, trees.Tree]:
    wanted = {
        operation.revision
        for operation in operations
        if isinstance(operation, trees.Copy) and operation.revision is not None
    }
    return {revision: _tree(selectors.revision_of(model=model, revision=revision)) for revision in wanted}


def _check_content(tenant_id: uuid.UUID, tree: trees.Tree) -> dict[str, Blob]:
    """The content of a tree, by sha256. Raises Refused for what this tenant never uploaded, whoever else has."""
    with tenant_scope(tenant_id):
        wanted = {entry.sha256 for entry in tree.values()}
        blobs = {blob.sha256: blob for blob in Blob.objects.filter(sha256__in=wanted, doomed_at=None)}
    for path, entry in tree.items():
        blob = blobs.get(entry.sha256)
        if blob is None or blob.size != entry.size:
            raise Refused(
                f"{path}: its content (sha256 {entry.sha256}, {entry.size} bytes) was not uploaded. "
                "Upload the file, then commit again.",
                field=path,
            )
    return blobs


def _verdict(report: Report, message: str) -> RevisionStatus:
    """Raises Refused with every file and reason (the first few of many)."""
    if report.problems:
        shown = [str(problem) for problem in report.problems[:_SHOWN_PROBLEMS]]
        more = len(report.problems) - len(shown)
        tail = [f"And {more} more files are refused."] if more else []
        raise Refused("\n".join([*shown, *tail]), field=report.problems[0].file)
    if report.weights and CONFIG in report.missing and LARGE_FOLDER not in message:
        raise Refused(
            f"{CONFIG}: is missing beside the weights ({report.weights[0]}). Upload the whole model folder in one "
            f"commit: {CONFIG} says what architecture the weights are of ({ADAPTER_CONFIG} for a LoRA adapter).",
            field=CONFIG,
        )
    return RevisionStatus.INCOMPLETE if report.missing else RevisionStatus.VERIFIED


def _register(*, actor: Actor, model: ModelRepo, ref: str, draft: _Draft) -> Revision | None:
    """Writes revision, files and branch in one transaction; None where the branch has moved on meanwhile."""
    tenant_id, base = model.tenant_id, draft.base
    digest = digests.revision_digest((path, entry.sha256, entry.size) for path, entry in draft.tree.items())
    moment = clock.now().isoformat()
    with accounts.locked(tenant_id):  # nothing of it is collected from here on
        blobs = _check_content(tenant_id, draft.tree)
        branch = (
            Ref.objects.select_for_update()
            .filter(repo_id=model.pk, kind=RefKind.BRANCH.value, name=ref.removeprefix("refs/heads/"))
            .first()
        )
        if branch is None or branch.revision_id != base.pk:
            return None
        status = draft.status
        if any(blob.verified_at is None for blob in blobs.values()):
            status = RevisionStatus.VERIFYING
        revision = Revision.objects.create(
            tenant_id=tenant_id,
            repo_id=model.pk,
            commit_id=digests.commit_id(str(model.pk), base.commit_id, digest, draft.message, draft.author, moment),
            parent=base,
            message=draft.message,
            description=draft.description,
            author=draft.author,
            status=status.value,
            digest=digest,
            inspection=draft.inspection,
        )
        ModelFile.objects.bulk_create(
            [
                ModelFile(
                    tenant_id=tenant_id,
                    revision=revision,
                    path=path,
                    size=entry.size,
                    sha256=entry.sha256,
                    oid=entry.oid,
                    lfs=entry.lfs,
                )
                for path, entry in sorted(draft.tree.items())
            ],
            batch_size=1000,
        )
        accounts.settle(tenant_id=tenant_id, sha256s=blobs)
        tensors.keep(tenant_id, {draft.tree[path].sha256: found for path, found in draft.headers.items()})
        branch.revision = revision
        branch.save(update_fields=["revision"])
        detail: dict[str, object] = {"model": model.public_id, "commit": revision.commit_id, "digest": digest}
        audit_record(
            actor=actor, tenant_id=tenant_id, action="revision.commit", object_id=revision.public_id, detail=detail
        )
    return revision
