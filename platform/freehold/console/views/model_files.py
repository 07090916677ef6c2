"""The files of a revision: what they are, and one of them or all to take along."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase

from freehold.common.errors import NotFound
from freehold.console.downloads import file_url
from freehold.console.listing import part_of
from freehold.console.views.model import Shown, model_tab, shown_of
from freehold.console.visits import Visit, member_view
from freehold.registry import selectors
from freehold.registry.export_links import export_sign
from freehold.registry.models import Revision
from freehold.tenancy.permissions import Operation

FILES = 200


@member_view(Operation.MODEL_READ)
def model_files(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """By path, with size and hash."""
    shown = shown_of(request, visit, model_id)
    files = [] if shown.revision is None else selectors.files(revision=shown.revision)
    context = {"part": part_of(request, files, most=FILES), "bytes": sum(file.size for file in files)}
    return model_tab(request, visit, shown, "files", context)


@member_view(Operation.MODEL_READ)
def file_download(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """Sends the browser to a link to one file (`?path=`), which is good for an hour."""
    revision = _revision(shown_of(request, visit, model_id))
    return HttpResponseRedirect(file_url(selectors.file_get(revision=revision, path=request.GET.get("path", ""))))


@member_view(Operation.MODEL_READ)
def archive(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """Sends the browser to a link to the whole revision as a tar, which is good for a day."""
    revision = _revision(shown_of(request, visit, model_id))
    return HttpResponseRedirect(export_sign(origin="", revision=revision))


def _revision(shown: Shown) -> Revision:
    if shown.revision is None:
        raise NotFound("This model has no revision yet.")
    return shown.revision
