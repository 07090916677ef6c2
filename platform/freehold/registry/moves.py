"""A model's name and description. A rename leaves the old name leading to the model until another takes it.

Nothing that runs notices: endpoints pin revisions, and a replica's template names the weights by tenant and digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from freehold.common.errors import Conflict, InvalidInput, NotFound
from freehold.db.rls import tenant_scope
from freehold.registry import names, selectors
from freehold.registry.models import ModelRepo, ModelRepoAlias
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record

if TYPE_CHECKING:
    import uuid

    from freehold.tenancy.actors import Actor

DESCRIPTION_CHARACTERS = 10_000


def model_rename(*, actor: Actor, tenant_id: uuid.UUID, model_id: uuid.UUID, name: str) -> ModelRepo:
    """Gives a model another name. The same name again changes nothing.

    Raises InvalidInput for the name, Conflict where it is taken, NotFound.
    """
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    names.check_repo_name(name)
    with tenant_scope(tenant_id):
        repo = _locked(model_id)
        before = repo.name
        if name != before:
            repo.name = name
            try:
                with transaction.atomic():
                    repo.save(update_fields=["name"])
            except IntegrityError:
                raise Conflict(f"You already have a model named {name!r}.", field="name") from None
            name_take(tenant_id=tenant_id, name=name)
            ModelRepoAlias.objects.create(tenant_id=tenant_id, name=before, repo=repo)
            detail: dict[str, object] = {"name": name, "before": before}
            audit_record(
                actor=actor, tenant_id=tenant_id, action="model.rename", object_id=repo.public_id, detail=detail
            )
    return selectors.model_get(tenant_id=tenant_id, public_id=repo.public_id)


def model_describe(*, actor: Actor, tenant_id: uuid.UUID, model_id: uuid.UUID, description: str) -> ModelRepo:
    """Sets a model's description. Raises InvalidInput (too long), NotFound."""
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    names.check_text(description, field="description")
    if len(description) > DESCRIPTION_CHARACTERS:
        raise InvalidInput(
            f"A description has at most {DESCRIPTION_CHARACTERS} characters; this one has {len(description)}.",
            field="description",
        )
    with tenant_scope(tenant_id):
        repo = _locked(model_id)
        repo.description = description
        repo.save(update_fields=["description"])
        audit_record(actor=actor, tenant_id=tenant_id, action="model.describe", object_id=repo.public_id)
    return selectors.model_get(tenant_id=tenant_id, public_id=repo.public_id)


def name_take(*, tenant_id: uuid.UUID, name: str) -> None:
    """Part of giving `name` to a model, after it has it: it no longer leads to the model that had it before."""
    ModelRepoAlias.objects.filter(tenant_id=tenant_id, name=name).delete()


def _locked(model_id: uuid.UUID) -> ModelRepo:
    repo = ModelRepo.objects.select_for_update().filter(pk=model_id).first()
    if repo is None:
        raise NotFound("There is no such model.")
    return repo
