"""What the commits of a branch have in common: which one last touched a path, and squashing them into one.

Called by the hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import ProtectedError

from freehold.common import clock
from freehold.common.errors import InvalidInput, NotFound
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, digests, names, selectors
from freehold.registry.choices import RefKind
from freehold.registry.models import ModelFile, ModelRepo, Ref, Revision
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from freehold.tenancy.actors import Actor

_MOST_ROWS: Final = 100_000  # of files that are looked at to answer one question


def last_changes(*, revision: Revision, paths: Iterable[str]) -> dict[str, Revision]:
    """The latest commit up to `revision` that changed each path; of a folder, anything below it.

    A path whose last change lies further back than can be looked at in one request is left out.
    """
    wanted = set(paths)
    line = selectors.history(revision=revision)
    found: dict[str, Revision] = {}
    rows = 0
    with tenant_scope(revision.tenant_id):
        after = _contents(revision)
        for current, parent in zip(line, [*line[1:], None], strict=True):
            before = {} if parent is None else _contents(parent)
            rows += len(before)
            changed = {path for path in after.keys() | before.keys() if after.get(path) != before.get(path)}
            touched = wanted & {folder for path in changed for folder in _with_folders(path)}
            found |= dict.fromkeys(touched, current)
            wanted -= touched
            if not wanted or rows > _MOST_ROWS:
                break
            after = before
    return found


def _contents(revision: Revision) -> dict[str, str]:
    return dict(ModelFile.objects.filter(revision_id=revision.pk).values_list("path", "sha256"))


def _with_folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def history_squash(*, actor: Actor, tenant_id: uuid.UUID, model_id: uuid.UUID, branch: str, message: str) -> Revision:
    """Makes a branch one commit with the files of its head, and deletes the commits that led there.

    Commits that another branch, a tag, a hold or the record of an endpoint refers to stay. Raises NotFound, and
    InvalidInput for a tag.
    """
    require(actor, Operation.MODEL_DELETE, tenant_id=tenant_id)
    names.check_text(message, field="message")
    with accounts.locked(tenant_id):
        repo = ModelRepo.objects.select_for_update().filter(pk=model_id).first()
        refs = list(Ref.objects.filter(repo_id=model_id).select_related("revision"))
        at = {(ref.kind, ref.name): ref for ref in refs}
        ref = at.get((RefKind.BRANCH.value, branch))
        if repo is None or (ref is None and (RefKind.TAG.value, branch) not in at):
            raise NotFound(f"There is no branch {branch[:200]!r}.")
        if ref is None:
            raise InvalidInput(f"{branch!r} is a tag. Only the history of a branch can be squashed.", field="branch")
        head = ref.revision
        squashed = _copied(head, actor=actor, message=message)
        ref.revision = squashed
        ref.save(update_fields=["revision"])
        deleted = _delete_unreached(head, [other.revision for other in refs])
        detail: dict[str, object] = {
            "branch": branch,
            "commit": squashed.commit_id,
            "before": head.commit_id,
            "deleted": deleted,
        }
        audit_record(actor=actor, tenant_id=tenant_id, action="history.squash", object_id=repo.public_id, detail=detail)
    return selectors.revision_by_key(tenant_id=tenant_id, revision_id=squashed.pk)


def _copied(head: Revision, *, actor: Actor, message: str) -> Revision:
    moment = clock.now().isoformat()
    revision = Revision.objects.create(
        tenant_id=head.tenant_id,
        repo_id=head.repo_id,
        commit_id=digests.commit_id(str(head.repo_id), "", head.digest, message, actor.label, moment),
        message=message[:500],
        author=actor.label,
        status=head.status,
        digest=head.digest,
        inspection=head.inspection,
    )
    files = [
        ModelFile(
            tenant_id=head.tenant_id,
            revision=revision,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
            oid=file.oid,
            lfs=file.lfs,
        )
        for file in ModelFile.objects.filter(revision_id=head.pk)
    ]
    ModelFile.objects.bulk_create(files, batch_size=1000)
    return revision


def _delete_unreached(head: Revision, kept: list[Revision]) -> int:
    """Deletes what led to `head` and to none of `kept`. Returns how many."""
    reached = {revision.pk for tip in kept for revision in selectors.history(revision=tip)}
    deleted = 0
    for revision in selectors.history(revision=head):
        if revision.pk in reached or revision.holds.exists():
            continue
        try:
            with transaction.atomic():
                revision.delete()
            deleted += 1
        except ProtectedError:  # an endpoint's record names it
            continue
    return deleted
