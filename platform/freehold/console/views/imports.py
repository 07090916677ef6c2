"""The list of imports: its table body is asked for again every two seconds while one of them is under way, else now and
then, as others may begin one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from freehold.console.listing import after_of
from freehold.console.live import Live, live
from freehold.console.visits import Visit, member_view, page
from freehold.db.rls import tenant_scope
from freehold.registry import imports
from freehold.registry.choices import ImportStatus
from freehold.registry.imports import ImportProgress
from freehold.registry.models import ModelImport
from freehold.tenancy.permissions import Operation

IMPORTS = 25
EVERY_SECONDS, IDLE_SECONDS = 2, 10
UNDER_WAY = frozenset({ImportStatus.QUEUED.value, ImportStatus.RUNNING.value})


@dataclass(frozen=True)
class Listed:
    """A line of the list: the import and how far it is."""

    item: ModelImport
    progress: ImportProgress


@dataclass(frozen=True)
class _Page:
    lines: Sequence[Listed]
    next: str  # after which import the next page begins; empty on the last


@member_view(Operation.MODEL_READ)
def import_list(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """Newest first; `?after=` goes on."""
    shown = _shown(request, visit)
    context = {
        "rows": _rows(request, visit, shown),
        "imports": shown.lines,
        "next": shown.next,
        "later": after_of(request) is not None,
    }
    return page(request, visit, "console/imports/list.html", context)


@member_view(Operation.MODEL_READ)
def import_rows(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """The table body of the same page."""
    return _rows(request, visit, _shown(request, visit)).answer(request)


def _shown(request: HttpRequest, visit: Visit) -> _Page:
    after = after_of(request)
    with tenant_scope(visit.tenant_id):
        rows = imports.import_list(tenant_id=visit.tenant_id)
        found = list((rows if after is None else rows.filter(pk__lt=after))[: IMPORTS + 1])
        progress = imports.import_progress(found[:IMPORTS])
    lines = [Listed(item, progress[item.pk]) for item in found[:IMPORTS]]
    return _Page(lines=lines, next=lines[-1].item.pk.hex if len(found) > IMPORTS else "")


def _rows(request: HttpRequest, visit: Visit, shown: _Page) -> Live:
    after = after_of(request)
    return live(
        request,
        "console/imports/rows.html",
        {"imports": shown.lines, "visit": visit},
        element="tbody",
        name="import-rows",
        url=reverse("console:import-rows") + (f"?after={after.hex}" if after else ""),
        seconds=EVERY_SECONDS if any(line.item.status in UNDER_WAY for line in shown.lines) else IDLE_SECONDS,
    )
