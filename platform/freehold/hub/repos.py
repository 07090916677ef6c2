"""Who am I; create, rename, describe and delete repos."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse

from freehold.common.errors import Conflict, InvalidInput
from freehold.hub.errors import REPO_NOT_FOUND, HubError
from freehold.hub.identity import actor_of, model_of
from freehold.hub.requests import HubRequest, text_of
from freehold.registry import services
from freehold.tenancy.permissions import Operation, allows, require


def whoami(request: HubRequest) -> HttpResponse:
    """The tenant of the key, as the user and its only organization: `create_repo("name")` lands there."""
    actor, tenant_id = actor_of(request.caller)
    slug = request.caller.slug if request.caller else ""
    role = "write" if allows(actor, Operation.MODEL_WRITE, tenant_id=tenant_id) else "read"
    return JsonResponse(
        {
            "type": "user",
            "id": actor.id,
            "name": slug,
            "fullname": slug,
            "email": None,
            "isPro": False,
            "orgs": [{"type": "org", "name": slug, "fullname": slug, "roleInOrg": role, "isEnterprise": False}],
            "auth": {"type": "access_token", "accessToken": {"displayName": actor.label, "role": role}},
        }
    )


def validate_yaml(request: HubRequest) -> HttpResponse:
    """Clients ask this of every README.md. Model cards are read leniently here, so nothing is ever wrong with them."""
    return JsonResponse({"errors": [], "warnings": []})


def create(request: HubRequest) -> HttpResponse:
    """A new model. Where it exists: 409 with its URL, which `create_repo(exist_ok=True)` reads."""
    actor, tenant_id = actor_of(request.caller)
    body = request.json()
    slug, name = _namespace_and_name(request, body)
    if slug != (request.caller.slug if request.caller else ""):
        raise HubError(403, f"This API key has no rights in the namespace {slug!r}.")
    _check_private(body)
    url = f"{request.origin}/{slug}/{name}"
    try:
        model = services.model_create(actor=actor, tenant_id=tenant_id, name=name)
    except Conflict as error:
        return JsonResponse({"error": error.message, "url": url, "name": f"{slug}/{name}"}, status=409)
    return JsonResponse({"url": url, "name": f"{slug}/{name}", "id": model.public_id})


def delete(request: HubRequest) -> HttpResponse:
    """Deletes a model with all its revisions; only by the name it has now."""
    actor, tenant_id = actor_of(request.caller)
    slug, name = _namespace_and_name(request, request.json())
    model = model_of(request.caller, slug, name)
    services.model_delete(actor=actor, tenant_id=tenant_id, model_id=model.pk)
    return JsonResponse({})


def move(request: HubRequest) -> HttpResponse:
    """Renames a model within its tenant. The old name leads to the new one until another model takes it."""
    actor, tenant_id = actor_of(request.caller)
    body = request.json()
    _check_kind(body)
    before, after = (text_of(body, field).split("/") for field in ("fromRepo", "toRepo"))
    if len(before) != 2 or len(after) != 2:
        raise InvalidInput("fromRepo and toRepo are written as `namespace/name`.", field="fromRepo")
    model = model_of(request.caller, before[0], before[1])
    if after[0] != before[0]:
        raise HubError(
            403,
            f"A model cannot be moved to another namespace: {'/'.join(before)} belongs to {before[0]}. Download it, "
            f"then upload it with an API key of {after[0][:100]}.",
        )
    renamed = services.model_rename(actor=actor, tenant_id=tenant_id, model_id=model.pk, name=after[1])
    url = f"{request.origin}/{renamed.full_name}"
    return JsonResponse({"url": url, "name": renamed.full_name, "id": renamed.public_id})


def settings(request: HubRequest) -> HttpResponse:
    """`HfApi.update_repo_settings`: a description can be set; models stay private and ungated."""
    actor, tenant_id = actor_of(request.caller)
    model = model_of(request.caller, request.part("namespace"), request.part("name"))
    body = request.json()
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    _check_private(body)
    if body.get("gated") not in {None, False}:
        raise InvalidInput(
            "Access to a model cannot be asked for: whoever belongs to its tenant has it, nobody else does.",
            field="gated",
        )
    if "description" in body:
        model = services.model_describe(
            actor=actor, tenant_id=tenant_id, model_id=model.pk, description=text_of(body, "description")
        )
    return JsonResponse({"private": True, "visibility": "private", "gated": False, "description": model.description})


def auth_check(request: HubRequest) -> HttpResponse:
    """Whether the caller may read the model, or at `…/write` write to it."""
    actor, tenant_id = actor_of(request.caller)
    model_of(request.caller, request.part("namespace"), request.part("name"))
    if request.part("mode") == "write":
        require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    return JsonResponse({"ok": True})


def _check_kind(body: dict[str, object]) -> None:
    if text_of(body, "type", "model") != "model":
        raise InvalidInput("Freehold keeps models only: there are no datasets or spaces here.", field="type")


def _check_private(body: dict[str, object]) -> None:
    if body.get("visibility") not in {None, "private"} or body.get("private") is False:
        raise InvalidInput(
            "Every model is private to its tenant, and cannot be made public. Leave visibility out.", field="visibility"
        )


def _namespace_and_name(request: HubRequest, body: dict[str, object]) -> tuple[str, str]:
    _check_kind(body)
    name = text_of(body, "name")
    namespace, _, tail = name.rpartition("/")
    slug = text_of(body, "organization") or namespace or (request.caller.slug if request.caller else "")
    if not tail:
        raise HubError(400, "Name the repository.", code=REPO_NOT_FOUND)
    return slug, tail
