"""One import: how far it is, why it waits or failed, its files; for those who may, cancelling and trying again."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRefresh

from freehold.common.errors import Conflict, FreeholdError, NotFound, PermissionDenied
from freehold.console.forms import show_error
from freehold.console.import_forms import FIELDS, RETRY_FORMS, SecretsForm
from freehold.console.listing import Part, offset_of
from freehold.console.live import Live, live
from freehold.console.views.imports import UNDER_WAY
from freehold.console.visits import Visit, is_htmx, member_view, page
from freehold.db.rls import tenant_scope
from freehold.registry import imports
from freehold.registry.choices import ImportKind, ImportStatus
from freehold.registry.imports import ImportProgress
from freehold.registry.models import ImportFile, ModelImport
from freehold.tenancy.permissions import Operation

STATUS_SECONDS, FILES_SECONDS = 2, 5
FILES = 100
RETRIED = frozenset({ImportStatus.FAILED.value, ImportStatus.CANCELLED.value})


@member_view(Operation.MODEL_READ)
def import_page(request: HttpRequest, visit: Visit, import_id: str) -> HttpResponseBase:
    """The whole page."""
    return _page(request, visit, _import(visit, import_id))


@member_view(Operation.MODEL_READ)
def import_status(request: HttpRequest, visit: Visit, import_id: str) -> HttpResponseBase:
    """How far it is. Only asked for while it is under way: afterwards the whole page is another."""
    found = _import(visit, import_id)
    if is_htmx(request) and found.status not in UNDER_WAY:
        return HttpResponseClientRefresh()
    return _status(request, visit, found).answer(request)


@member_view(Operation.MODEL_READ)
def import_files(request: HttpRequest, visit: Visit, import_id: str) -> HttpResponseBase:
    """A page of its files."""
    return _files(request, visit, _import(visit, import_id)).answer(request)


@member_view(Operation.MODEL_WRITE, methods=("POST",))
def import_cancel(request: HttpRequest, visit: Visit, import_id: str) -> HttpResponseBase:
    """Ends it. Where it has ended by itself, that is said."""
    found = _import(visit, import_id)
    try:
        imports.import_cancel(actor=visit.actor, tenant_id=visit.tenant_id, import_id=found.pk)
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, "The import ends. What has come is kept for a while: a retry goes on with it.")
    return redirect("console:import", found.public_id)


@member_view(Operation.MODEL_WRITE, methods=("POST",))
def import_retry(request: HttpRequest, visit: Visit, import_id: str) -> HttpResponseBase:
    """Again, with the same credentials, with others or with none."""
    found = _import(visit, import_id)
    form, status = RETRY_FORMS[ImportKind(found.kind)](request.POST), 400
    if form.is_valid():
        try:
            imports.import_retry(
                actor=visit.actor, tenant_id=visit.tenant_id, import_id=found.pk, credentials=_credentials(form)
            )
        except (NotFound, PermissionDenied):
            raise
        except FreeholdError as error:
            show_error(form, error, fields=FIELDS)
            status = error.status
        else:
            messages.success(request, "The import goes on. What is here already is not moved again.")
            return redirect("console:import", found.public_id)
    return _page(request, visit, found, retry=form, status=status)


def _credentials(form: SecretsForm) -> dict[str, str] | None:
    """None for those given before."""
    return {} if form.cleaned_data["forget"] else form.credentials or None


def _import(visit: Visit, import_id: str) -> ModelImport:
    return imports.import_get(tenant_id=visit.tenant_id, import_id=ModelImport.parse_id(import_id))


def _page(
    request: HttpRequest, visit: Visit, found: ModelImport, *, retry: SecretsForm | None = None, status: int = 200
) -> HttpResponseBase:
    context = {
        "item": found,
        "status": _status(request, visit, found),
        "files": _files(request, visit, found),
        "may_cancel": found.status in UNDER_WAY and found.cancel_requested_at is None,
        "may_retry": found.status in RETRIED or retry is not None,
        "retry": retry or RETRY_FORMS[ImportKind(found.kind)](),
    }
    return page(request, visit, "console/imports/page.html", context, status=status)


def _progress(found: ModelImport) -> ImportProgress:
    with tenant_scope(found.tenant_id):
        return imports.import_progress([found])[found.pk]


def _status(request: HttpRequest, visit: Visit, found: ModelImport) -> Live:
    return live(
        request,
        "console/imports/status.html",
        {"item": found, "progress": _progress(found), "visit": visit},
        element="div",
        name="import-state",
        url=reverse("console:import-status", args=[found.public_id]),
        seconds=STATUS_SECONDS if found.status in UNDER_WAY else 0,
    )


def _files(request: HttpRequest, visit: Visit, found: ModelImport) -> Live:
    """A page of the files: there may be thousands, and it is asked for again and again."""
    progress, offset = _progress(found), offset_of(request)
    total = progress.files_total + progress.files_skipped
    files = imports.import_files(tenant_id=visit.tenant_id, import_id=found.pk, first=offset, most=FILES)
    part: Part[ImportFile] = Part(items=files, offset=offset, total=total, most=FILES)
    return live(
        request,
        "console/imports/files.html",
        {"item": found, "part": part, "under_way": found.status in UNDER_WAY},
        element="div",
        name="import-files",
        url=f"{reverse('console:import-files', args=[found.public_id])}?offset={offset}",
        seconds=FILES_SECONDS if found.status in UNDER_WAY else 0,
    )
