"""The form “Import a model”: from a hub or from S3, filled in beforehand where one comes from the catalog."""

from __future__ import annotations

import re

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from freehold.common.errors import FreeholdError, NotFound, PermissionDenied
from freehold.console.forms import show_error
from freehold.console.import_forms import FIELDS, FORMS, HUB_URL, ImportForm
from freehold.console.visits import Visit, member_view, page
from freehold.registry import imports
from freehold.registry.accounts import storage_usage
from freehold.registry.choices import ImportKind
from freehold.registry.models import ModelImport
from freehold.registry.sources.errors import OutboundRefused
from freehold.serving.catalog.selectors import catalog_get
from freehold.serving.models import CatalogModel
from freehold.tenancy.permissions import Operation

_ADDRESS = {ImportKind.HUB: "url", ImportKind.S3: "endpoint_url"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@member_view(Operation.MODEL_WRITE, methods=("GET", "HEAD", "POST"))
def import_new(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """`?from=` hub or s3; `?catalog=` fills in an entry of the catalog, `?model=` the name of a model that is here."""
    kind = _kind(request)
    entry = catalog_get(upstream_id=request.GET["catalog"]) if request.GET.get("catalog") else None
    form, status = FORMS[kind](initial=_initial(request, entry)), 200
    if request.method == "POST":
        form, status = FORMS[kind](request.POST), 400
        if form.is_valid():
            try:
                created = _create(visit, form)
            except (NotFound, PermissionDenied):
                raise
            except FreeholdError as error:
                unnamed = {"": _ADDRESS[kind]} if isinstance(error, OutboundRefused) else {}
                show_error(form, error, fields={**FIELDS, **unnamed})
                status = error.status
            else:
                messages.success(request, f"The import to {created.repo.full_name} has begun. It goes on by itself.")
                return redirect("console:import", created.public_id)
    usage = storage_usage(tenant_id=visit.tenant_id)
    context = {
        "form": form,
        "kind": kind.value,
        "entry": entry,
        "full": usage.free_bytes == 0,
        "short": _is_short(entry, usage.free_bytes),
        "usage": usage,
    }
    return page(request, visit, "console/imports/new.html", context, status=status)


def _kind(request: HttpRequest) -> ImportKind:
    wanted = request.GET.get("from", ImportKind.HUB.value)
    if wanted not in set(ImportKind):
        raise NotFound("Imports come from a hub or from S3.")
    return ImportKind(wanted)


def _initial(request: HttpRequest, entry: CatalogModel | None) -> dict[str, object]:
    if entry is None:
        name = request.GET.get("model", "")[:96]
        return {"model": name} if name else {}
    document = entry.document
    return {
        "url": HUB_URL,
        "repo": entry.upstream_id,
        "revision": document.get("upstream_revision", ""),
        "model": _NOT_IN_NAMES.sub("-", entry.upstream_id.partition("/")[2]),
        "exclude": "\n".join(document.get("exclude", [])),
        "remove_remote_code": bool(document.get("custom_code")),
    }


def _is_short(entry: CatalogModel | None, free: int | None) -> bool:
    """Whether the entry's weights are known to be more than there is room for."""
    size = None if entry is None else entry.document.get("weights", {}).get("bytes")
    return free is not None and isinstance(size, int) and size > free


def _create(visit: Visit, form: ImportForm) -> ModelImport:
    wanted = form.cleaned_data
    return imports.import_create(
        actor=visit.actor,
        tenant_id=visit.tenant_id,
        name=wanted["model"],
        kind=form.KIND,
        source=form.source,
        credentials=form.credentials or None,
        ref=wanted["branch"],
        include=wanted["include"],
        exclude=wanted["exclude"],
        remove_remote_code=wanted["remove_remote_code"],
    )
