"""Who calls the hub and what they may see: an API key, or a fetch token for one revision. Cookies count for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.common.errors import NotAuthenticated, NotFound, PermissionDenied
from freehold.hub.errors import ENTRY_NOT_FOUND, REPO_NOT_FOUND, REVISION_NOT_FOUND, HubError, RepoMoved
from freehold.registry import selectors
from freehold.registry.fetch_tokens import PREFIX, fetch_token_verify
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.selectors import api_key_authenticate

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest

    from freehold.registry.models import ModelFile, ModelRepo, Revision
    from freehold.tenancy.actors import Actor


@dataclass(frozen=True, kw_only=True)
class Caller:
    """An authenticated caller. Exactly one of `actor` (an API key) and `revision_id`, with its `repo_id` (a fetch
    token), is set."""

    tenant_id: uuid.UUID
    slug: str
    actor: Actor | None = None
    revision_id: uuid.UUID | None = None
    repo_id: uuid.UUID | None = None


def caller_of(request: HttpRequest) -> Caller | None:
    """The caller, or None for nobody. Raises NotAuthenticated for credentials that are no good."""
    header = request.headers.get("Authorization", "")
    if not header:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated("Send the API key as `Authorization: Bearer …` (HF_TOKEN does).")
    secret = secret.strip()
    if not secret.startswith(PREFIX):
        actor, tenant = api_key_authenticate(secret=secret)
        return Caller(tenant_id=tenant.pk, slug=tenant.slug, actor=actor)
    grant = fetch_token_verify(token=secret)
    try:
        revision = selectors.revision_by_key(tenant_id=grant.tenant_id, revision_id=grant.revision_id)
    except NotFound:
        raise NotAuthenticated("The revision of this fetch token is gone.") from None
    tenant = revision.repo.tenant
    if tenant.suspended_at is not None:
        raise PermissionDenied(f"The tenant {tenant.slug} is suspended.")
    return Caller(tenant_id=tenant.pk, slug=tenant.slug, revision_id=revision.pk, repo_id=revision.repo_id)


def actor_of(caller: Caller | None) -> tuple[Actor, uuid.UUID]:
    """The actor and tenant of an API key. Raises HubError 401 for nobody, PermissionDenied for a fetch token."""
    if caller is None:
        raise HubError(401, "Log in first: set HF_TOKEN to a Freehold API key.")
    if caller.actor is None:
        raise PermissionDenied("A fetch token only reads its revision.")
    return caller.actor, caller.tenant_id


def model_of(caller: Caller | None, namespace: str, name: str) -> ModelRepo:
    """The model `namespace/name`, for all that is not about one revision. Raises PermissionDenied for a fetch token,
    RepoMoved where the model has another name now."""
    if caller is not None:
        actor_of(caller)
    return _model(caller, namespace, name)


def _model(caller: Caller | None, namespace: str, name: str) -> ModelRepo:
    """To a stranger a private model and a missing one are the same; to a fetch token so is all but its own."""
    if caller is None:
        raise HubError(401, "Repository not found, or you are not logged in.", code=REPO_NOT_FOUND)
    if caller.actor is not None:
        require(caller.actor, Operation.MODEL_READ, tenant_id=caller.tenant_id)
    missing = HubError(404, f"There is no repository {namespace}/{name}.", code=REPO_NOT_FOUND)
    if namespace != caller.slug:
        raise missing
    try:
        model = selectors.model_find(tenant_id=caller.tenant_id, name=name)
    except NotFound:
        renamed = selectors.model_find_renamed(tenant_id=caller.tenant_id, name=name)
        if renamed is None:
            raise missing from None
        if caller.repo_id is None:
            raise RepoMoved(before=name, now=renamed.name) from None
        model = renamed  # a replica that is fetching goes on under the name it was told
    if caller.repo_id not in {None, model.pk}:
        raise missing
    return model


def revision_of(caller: Caller | None, namespace: str, name: str, revision: str) -> Revision:
    """What a branch, tag or commit of a model means, within what the caller may read. Raises RepoMoved."""
    model = _model(caller, namespace, name)
    if revision.startswith(("refs/pr/", "refs/convert/")):
        message = f"There is no {revision[:100]!r}: this hub has no pull requests and converts nothing."
        raise HubError(404, message, code=REVISION_NOT_FOUND)
    try:
        found = selectors.revision_of(model=model, revision=revision)
    except NotFound as error:
        raise HubError(404, error.message, code=REVISION_NOT_FOUND) from None
    if caller is not None and caller.revision_id not in {None, found.pk}:
        raise HubError(404, f"This token does not read {revision!r}.", code=REVISION_NOT_FOUND)
    return found


def file_of(revision: Revision, path: str) -> ModelFile:
    """A file of a revision. The 404 names the commit too: clients remember that the file does not exist there."""
    try:
        return selectors.file_get(revision=revision, path=path)
    except NotFound as error:
        headers = {"X-Repo-Commit": revision.commit_id}
        raise HubError(404, error.message, code=ENTRY_NOT_FOUND, headers=headers) from None
