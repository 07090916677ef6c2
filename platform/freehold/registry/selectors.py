"""Reads of the registry. What returns a queryset is read inside the caller's tenant scope; what returns an object or a
list opens the scope itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.common.errors import NotFound
from freehold.db.rls import tenant_scope
from freehold.registry import names
from freehold.registry.choices import RefKind
from freehold.registry.models import ModelFile, ModelRepo, ModelRepoAlias, Ref, Revision, RevisionHold

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from django.db.models import QuerySet


def model_list(*, tenant_id: uuid.UUID) -> QuerySet[ModelRepo]:
    """A tenant's models, newest first. Read inside the tenant's scope."""
    return ModelRepo.objects.filter(tenant_id=tenant_id).select_related("tenant").order_by("-id")


def model_get(*, tenant_id: uuid.UUID, public_id: str) -> ModelRepo:
    """A model by its id (`mdl_…`), with its tenant. Raises NotFound, also for another tenant's."""
    with tenant_scope(tenant_id):
        repo = model_list(tenant_id=tenant_id).filter(pk=ModelRepo.parse_id(public_id)).first()
    if repo is None:
        raise NotFound(f"There is no model with the id {public_id}.")
    return repo


def model_find(*, tenant_id: uuid.UUID, name: str) -> ModelRepo:
    """A model by its name within the tenant, with its tenant. Raises NotFound."""
    repo = None
    if names.is_holdable(name):
        with tenant_scope(tenant_id):
            repo = model_list(tenant_id=tenant_id).filter(name=name).first()
    if repo is None:
        raise NotFound(f"There is no model named {name!r}. Look at the list of your models, or create it first.")
    return repo


def model_find_renamed(*, tenant_id: uuid.UUID, name: str) -> ModelRepo | None:
    """The model that had this name before and that no other has taken it from, with its tenant."""
    if not names.is_holdable(name):
        return None
    with tenant_scope(tenant_id):
        alias = ModelRepoAlias.objects.select_related("repo__tenant").filter(tenant_id=tenant_id, name=name).first()
    return None if alias is None else alias.repo


def revision_list(*, model: ModelRepo) -> QuerySet[Revision]:
    """A model's revisions, newest first. Read inside the tenant's scope."""
    return Revision.objects.filter(repo_id=model.pk).select_related("repo__tenant").order_by("-id")


def revision_get(*, tenant_id: uuid.UUID, public_id: str) -> Revision:
    """A revision by its id (`rev_…`), with repo and tenant. Raises NotFound, also for another tenant's."""
    return revision_by_key(tenant_id=tenant_id, revision_id=Revision.parse_id(public_id))


def revision_by_key(*, tenant_id: uuid.UUID, revision_id: uuid.UUID) -> Revision:
    """A revision by its primary key, with repo and tenant. Raises NotFound, also for another tenant's."""
    with tenant_scope(tenant_id):
        revision = Revision.objects.select_related("repo__tenant", "parent").filter(pk=revision_id).first()
    if revision is None:
        raise NotFound("There is no such revision.")
    return revision


def revision_resolve(*, tenant_id: uuid.UUID, repo: str, revision: str = names.DEFAULT_BRANCH) -> Revision:
    """The revision that a branch, a tag or a commit id means in the model named `repo`; branches win over tags.

    `repo` may carry the tenant's slug (`tenant/name`). Raises NotFound for the model, also for one under another
    tenant's slug, and for the revision.
    """
    slug, _, name = repo.rpartition("/")
    model = model_find(tenant_id=tenant_id, name=name)
    if slug not in {"", model.tenant.slug}:
        raise NotFound(f"There is no model named {repo!r}. Look at the list of your models, or create it first.")
    return revision_of(model=model, revision=revision)


def revision_of(*, model: ModelRepo, revision: str) -> Revision:
    """As revision_resolve, for a model already at hand. The first 7 digits of a commit id or more will do."""
    found = None
    if names.is_holdable(revision):
        found = _named(model, revision)
    if found is None:
        raise NotFound(f"The model {model.name!r} has no branch, tag or commit {revision[:200]!r}.")
    return found


def _named(model: ModelRepo, revision: str) -> Revision | None:
    with tenant_scope(model.tenant_id):
        candidates = Revision.objects.select_related("repo__tenant", "parent").filter(repo_id=model.pk)
        if names.is_commit_id(revision):
            return candidates.filter(commit_id=revision).first()
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        refs = {ref.kind: ref.revision_id for ref in Ref.objects.filter(repo_id=model.pk, name=name)}
        key = refs.get(RefKind.BRANCH.value, refs.get(RefKind.TAG.value))
        if key is not None:
            return candidates.filter(pk=key).first()
        if names.is_short_commit_id(revision):
            found = list(candidates.filter(commit_id__startswith=revision)[:2])
            return found[0] if len(found) == 1 else None
        return None


def revision_statuses(*, tenant_id: uuid.UUID, revision_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The status of each revision, by primary key; of a page of a list, in one query."""
    with tenant_scope(tenant_id):
        return dict(Revision.objects.filter(pk__in=list(revision_ids)).values_list("pk", "status"))


def ref_list(*, model: ModelRepo) -> list[Ref]:
    """A model's branches and tags with their revisions, by name."""
    with tenant_scope(model.tenant_id):
        return list(Ref.objects.filter(repo_id=model.pk).select_related("revision").order_by("kind", "name"))


def files(*, revision: Revision) -> list[ModelFile]:
    """A revision's files, by path."""
    with tenant_scope(revision.tenant_id):
        return list(ModelFile.objects.filter(revision_id=revision.pk).order_by("path"))


def large_files(*, model: ModelRepo) -> list[ModelFile]:
    """Each content that travels as a blob, in any revision of a model, once: where it was last added, newest first."""
    with tenant_scope(model.tenant_id):
        files = ModelFile.objects.filter(revision__repo_id=model.pk, lfs=True).order_by("sha256", "-id")
        return sorted(files.distinct("sha256"), key=lambda file: file.pk, reverse=True)


def file_get(*, revision: Revision, path: str) -> ModelFile:
    """One file of a revision. Raises NotFound."""
    file = None
    if names.is_holdable(path):
        with tenant_scope(revision.tenant_id):
            file = ModelFile.objects.filter(revision_id=revision.pk, path=path).first()
    if file is None:
        raise NotFound(f"There is no file {path[:200]!r} at {revision.commit_id}.")
    return file


def history(*, revision: Revision) -> list[Revision]:
    """A revision and its ancestors, newest first. What was found in them (`inspection`) is not loaded along."""
    with tenant_scope(revision.tenant_id):
        revisions = Revision.objects.filter(repo_id=revision.repo_id).defer("inspection")
        known = {each.pk: each for each in revisions}
    line: list[Revision] = []
    current = known.get(revision.pk)
    while current is not None:
        line.append(current)
        current = None if current.parent_id is None else known.get(current.parent_id)
    return line


def hold_list(*, revision: Revision) -> list[RevisionHold]:
    """Who holds a revision, oldest first."""
    with tenant_scope(revision.tenant_id):
        return list(RevisionHold.objects.filter(revision_id=revision.pk).order_by("id"))
