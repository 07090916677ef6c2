"""Writes of the registry. Every service opens its own tenant scope.

The imports with `as` are part of this door; their code has modules of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from freehold.common.errors import Conflict, InvalidInput, NotFound
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, digests, names, selectors
from freehold.registry.arrivals import Resumed as Resumed
from freehold.registry.arrivals import content_arrived as content_arrived
from freehold.registry.arrivals import upload_complete as upload_complete
from freehold.registry.arrivals import upload_received as upload_received
from freehold.registry.arrivals import uploads_resume as uploads_resume
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.commits import revision_commit as revision_commit
from freehold.registry.contents import Content as Content
from freehold.registry.contents import content_add as content_add
from freehold.registry.contents import content_find as content_find
from freehold.registry.contents import contents_add as contents_add
from freehold.registry.contents import contents_find as contents_find
from freehold.registry.contents import room_check as room_check
from freehold.registry.contents import upload_begin_unnamed as upload_begin_unnamed
from freehold.registry.contents import upload_finish as upload_finish
from freehold.registry.contents import upload_get as upload_get
from freehold.registry.contents import uploads_begin as uploads_begin
from freehold.registry.discards import content_discard as content_discard
from freehold.registry.discards import upload_cancel as upload_cancel
from freehold.registry.fetch_tokens import fetch_token_create as fetch_token_create
from freehold.registry.fetch_tokens import fetch_token_verify as fetch_token_verify
from freehold.registry.histories import history_squash as history_squash
from freehold.registry.models import ModelRepo, Ref, Revision, RevisionHold
from freehold.registry.moves import model_describe as model_describe
from freehold.registry.moves import model_rename as model_rename
from freehold.registry.moves import name_take
from freehold.registry.selectors import revision_resolve as revision_resolve
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import hints

if TYPE_CHECKING:
    import uuid

    from freehold.tenancy.actors import Actor

_INITIAL_MESSAGE = "initial commit"


def model_create(*, actor: Actor, tenant_id: uuid.UUID, name: str) -> ModelRepo:
    """A new, empty model with a branch `main`. Raises InvalidInput for the name, Conflict where it is taken."""
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    names.check_repo_name(name)
    with tenant_scope(tenant_id):
        try:
            with transaction.atomic():
                repo = ModelRepo.objects.create(tenant_id=tenant_id, name=name)
        except IntegrityError:
            raise Conflict(f"You already have a model named {name!r}.", field="name") from None
        name_take(tenant_id=tenant_id, name=name)
        revision = Revision.objects.create(
            tenant_id=tenant_id,
            repo=repo,
            commit_id=digests.commit_id(str(repo.pk)),
            message=_INITIAL_MESSAGE,
            author=actor.label,
            status=RevisionStatus.INCOMPLETE.value,
            digest=digests.revision_digest([]),
            inspection={"missing": ["config.json", "*.safetensors"]},
        )
        Ref.objects.create(
            tenant_id=tenant_id,
            repo=repo,
            kind=RefKind.BRANCH.value,
            name=names.DEFAULT_BRANCH,
            revision=revision,
        )
        audit_record(
            actor=actor, tenant_id=tenant_id, action="model.create", object_id=repo.public_id, detail={"name": name}
        )
    return selectors.model_find(tenant_id=tenant_id, name=name)


def model_delete(*, actor: Actor, tenant_id: uuid.UUID, model_id: uuid.UUID) -> None:
    """Deletes a model with all its revisions. Raises NotFound, or Conflict where somebody holds one of them.

    Content that nothing else refers to leaves the object store soon after (garbage.py).
    """
    require(actor, Operation.MODEL_DELETE, tenant_id=tenant_id)
    with accounts.locked(tenant_id):  # as commits do, and in the same order: repo and branches come after it
        repo = _locked(model_id)
        holders = sorted(set(RevisionHold.objects.filter(revision__repo=repo).values_list("holder", flat=True)))
        if holders:
            raise Conflict(f"The model {repo.name!r} is in use by {', '.join(holders[:5])}. Delete what uses it first.")
        public_id, name = repo.public_id, repo.name
        try:
            repo.delete()
        except ProtectedError:
            raise Conflict(
                f"The model {name!r} was served by an endpoint whose record refers to it, so it must be kept."
            ) from None
        audit_record(
            actor=actor, tenant_id=tenant_id, action="model.delete", object_id=public_id, detail={"name": name}
        )
        transaction.on_commit(partial(hints.send, hints.COLLECT_GARBAGE, str(tenant_id)))


def ref_create(
    *, actor: Actor, tenant_id: uuid.UUID, model_id: uuid.UUID, kind: RefKind, name: str, revision: Revision
) -> Ref:
    """A new branch or tag. Raises InvalidInput (the name), Conflict (it exists), NotFound (a foreign revision)."""
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    names.check_ref_name(name)
    with tenant_scope(tenant_id):
        repo = _locked(model_id)
        if revision.repo_id != repo.pk:
            raise NotFound("There is no such revision of this model.")
        ref, created = Ref.objects.get_or_create(
            repo=repo, kind=kind.value, name=name, defaults={"tenant_id": tenant_id, "revision": revision}
        )
        if not created:
            raise Conflict(f"The {kind.value} {name!r} exists already.", field="name")
        detail: dict[str, object] = {"kind": kind.value, "name": name, "commit": revision.commit_id}
        audit_record(actor=actor, tenant_id=tenant_id, action="ref.create", object_id=repo.public_id, detail=detail)
    return ref


def ref_delete(*, actor: Actor, tenant_id: uuid.UUID, model_id: uuid.UUID, kind: RefKind, name: str) -> None:
    """Deletes a branch or tag; its revisions stay. Raises NotFound, InvalidInput for the branch `main`."""
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    if kind is RefKind.BRANCH and name == names.DEFAULT_BRANCH:
        raise InvalidInput(f"The branch {name!r} cannot be deleted.", field="name")
    with tenant_scope(tenant_id):
        repo = _locked(model_id)
        deleted, _ = Ref.objects.filter(repo=repo, kind=kind.value, name=name).delete()
        if not deleted:
            raise NotFound(f"There is no {kind.value} {name!r}.")
        detail: dict[str, object] = {"kind": kind.value, "name": name}
        audit_record(actor=actor, tenant_id=tenant_id, action="ref.delete", object_id=repo.public_id, detail=detail)


def revision_hold(*, tenant_id: uuid.UUID, revision_id: uuid.UUID, holder: str) -> RevisionHold:
    """Keeps a revision from being deleted for `holder` (such as an endpoint's public id). Twice is once.

    Takes no actor: it is part of another domain's write, which has checked and recorded who asked. Raises NotFound.
    """
    with tenant_scope(tenant_id):
        revision = Revision.objects.filter(pk=revision_id).first()
        if revision is None:
            raise NotFound("There is no such revision.")
        _locked(revision.repo_id)  # a deletion of the repo at the same moment waits, or was first
        hold, _ = RevisionHold.objects.get_or_create(
            revision=revision, holder=holder, defaults={"tenant_id": tenant_id}
        )
    return hold


def revision_release(*, tenant_id: uuid.UUID, revision_id: uuid.UUID, holder: str) -> None:
    """Ends a hold; harmless where there is none. Takes no actor, as revision_hold."""
    with tenant_scope(tenant_id):
        RevisionHold.objects.filter(revision_id=revision_id, holder=holder).delete()


def _locked(model_id: uuid.UUID) -> ModelRepo:
    repo = ModelRepo.objects.select_for_update().filter(pk=model_id).first()
    if repo is None:
        raise NotFound("There is no such model.")
    return repo
