"""Branches and tags, and squashing the history of a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse, JsonResponse

from freehold.common.errors import Conflict, InvalidInput, NotFound
from freehold.hub.errors import REVISION_NOT_FOUND, HubError
from freehold.hub.identity import actor_of, model_of, revision_of
from freehold.hub.requests import HubRequest, text_of
from freehold.registry import names, selectors, services
from freehold.registry.choices import RefKind

if TYPE_CHECKING:
    from freehold.registry.models import ModelRepo


def listing(request: HubRequest) -> HttpResponse:
    """Every branch and tag with the commit it points at."""
    model = model_of(request.caller, request.part("namespace"), request.part("name"))
    refs = selectors.ref_list(model=model)

    def shown(kind: RefKind, folder: str) -> list[dict[str, Any]]:
        return [
            {"name": ref.name, "ref": f"refs/{folder}/{ref.name}", "targetCommit": ref.revision.commit_id}
            for ref in refs
            if ref.kind == kind
        ]

    return JsonResponse(
        {
            "branches": shown(RefKind.BRANCH, "heads"),
            "tags": shown(RefKind.TAG, "tags"),
            "converts": [],
            "pullRequests": [],
        }
    )


def branch(request: HubRequest) -> HttpResponse:
    """POST creates a branch at `startingPoint`; DELETE deletes it."""
    model, name = _model(request), request.part("path")
    if request.http.method == "DELETE":
        return _delete(request, model, RefKind.BRANCH, name)
    start = text_of(request.json(), "startingPoint") or names.DEFAULT_BRANCH
    return _create(request, model, RefKind.BRANCH, name, start)


def tag(request: HubRequest) -> HttpResponse:
    """POST to a revision's name creates the tag named in the body there; DELETE deletes the tag."""
    model, name = _model(request), request.part("path")
    if request.http.method == "DELETE":
        return _delete(request, model, RefKind.TAG, name)
    return _create(request, model, RefKind.TAG, text_of(request.json(), "tag"), name)


def squash(request: HubRequest) -> HttpResponse:
    """Makes a branch one commit with the files of its head: `HfApi.super_squash_history`."""
    model = _model(request)
    actor, tenant_id = actor_of(request.caller)
    branch = request.part("revision").removeprefix("refs/heads/")
    message = text_of(request.json(), "message") or f"Squash the history of {branch}"
    try:
        revision = services.history_squash(
            actor=actor, tenant_id=tenant_id, model_id=model.pk, branch=branch, message=message
        )
    except NotFound as error:
        raise HubError(404, error.message, code=REVISION_NOT_FOUND) from None
    return JsonResponse({"commitId": revision.commit_id})


def _model(request: HubRequest) -> ModelRepo:
    actor_of(request.caller)
    return model_of(request.caller, request.part("namespace"), request.part("name"))


def _create(request: HubRequest, model: ModelRepo, kind: RefKind, name: str, start: str) -> HttpResponse:
    actor, tenant_id = actor_of(request.caller)
    revision = revision_of(request.caller, request.part("namespace"), request.part("name"), start)
    try:
        services.ref_create(
            actor=actor, tenant_id=tenant_id, model_id=model.pk, kind=kind, name=name, revision=revision
        )
    except Conflict as error:
        raise HubError(409, error.message) from None
    return JsonResponse({}, status=201)


def _delete(request: HubRequest, model: ModelRepo, kind: RefKind, name: str) -> HttpResponse:
    actor, tenant_id = actor_of(request.caller)
    try:
        services.ref_delete(actor=actor, tenant_id=tenant_id, model_id=model.pk, kind=kind, name=name)
    except NotFound as error:
        raise HubError(404, error.message, code=REVISION_NOT_FOUND) from None
    except InvalidInput as error:
        raise HubError(403, error.message) from None
    return JsonResponse({})
