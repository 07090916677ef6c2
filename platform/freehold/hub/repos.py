"""Who am I; create, delete and list repos."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse

from freehold.common.errors import Conflict, InvalidInput
from freehold.db.rls import tenant_scope
from freehold.hub.errors import REPO_NOT_FOUND, HubError
from freehold.hub.identity import actor_of, model_of
from freehold.hub.requests import HubRequest, text_of
from freehold.registry import selectors, services
from freehold.registry.names import check_text
from freehold.tenancy.permissions import Operation, allows, require

_LISTED = 1000


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
    if body.get("visibility") == "public" or body.get("private") is False:
        raise InvalidInput("Every model is private to its tenant. Create it without asking for public visibility.")
    url = f"{request.origin}/{slug}/{name}"
    try:
        model = services.model_create(actor=actor, tenant_id=tenant_id, name=name)
    except Conflict as error:
        return JsonResponse({"error": error.message, "url": url, "name": f"{slug}/{name}"}, status=409)
    return JsonResponse({"url": url, "name": f"{slug}/{name}", "id": model.public_id})


def delete(request: HubRequest) -> HttpResponse:
    """Deletes a model with all its revisions."""
    actor, tenant_id = actor_of(request.caller)
    slug, name = _namespace_and_name(request, request.json())
    model = model_of(request.caller, slug, name)
    services.model_delete(actor=actor, tenant_id=tenant_id, model_id=model.pk)
    return JsonResponse({})


def listing(request: HubRequest) -> HttpResponse:
    """The tenant's models, newest first: `HfApi.list_models`, with its filters `author` and `search`."""
    actor, tenant_id = actor_of(request.caller)
    require(actor, Operation.MODEL_READ, tenant_id=tenant_id)
    author, search = request.http.GET.get("author"), check_text(request.http.GET.get("search", ""), field="search")
    with tenant_scope(tenant_id):
        models = list(selectors.model_list(tenant_id=tenant_id).filter(name__icontains=search)[:_LISTED])
    return JsonResponse(
        [
            {
                "_id": model.public_id,
                "id": model.full_name,
                "modelId": model.full_name,
                "private": True,
                "createdAt": model.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "tags": [],
            }
            for model in models
            if author in {None, model.tenant.slug}
        ],
        safe=False,
    )


def _namespace_and_name(request: HubRequest, body: dict[str, object]) -> tuple[str, str]:
    if text_of(body, "type", "model") != "model":
        raise InvalidInput("Freehold keeps models only: there are no datasets or spaces here.", field="type")
    name = text_of(body, "name")
    namespace, _, tail = name.rpartition("/")
    slug = text_of(body, "organization") or namespace or (request.caller.slug if request.caller else "")
    if not tail:
        raise HubError(400, "Name the repository.", code=REPO_NOT_FOUND)
    return slug, tail
