"""/<tenant>/<model>/resolve/<revision>/<path>: metadata of a file by HEAD, a redirect to its bytes by GET."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse

from freehold.hub.identity import file_of, revision_of
from freehold.registry.content_links import SECONDS, BlobLink, Direction, download_sign
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    from freehold.hub.requests import HubRequest


def resolve(request: HubRequest) -> HttpResponse:
    """HEAD answers 200 itself: clients follow a redirect to the same origin and would lose these headers."""
    revision = revision_of(request.caller, request.part("namespace"), request.part("name"), request.part("revision"))
    file = file_of(revision, request.part("path"))
    etag = f'"{file.sha256 if file.lfs else file.oid}"'
    response = HttpResponse(status=200, content_type="application/octet-stream")
    response["ETag"] = etag
    response["X-Linked-ETag"] = etag
    response["X-Linked-Size"] = str(file.size)
    response["X-Repo-Commit"] = revision.commit_id
    response["Accept-Ranges"] = "bytes"
    if request.http.method == "HEAD":
        response["Content-Length"] = str(file.size)
        return response
    name = file.path.rpartition("/")[2]
    url = object_store().download_url(
        file.tenant_id, sha256=file.sha256, filename=name, seconds=SECONDS[Direction.DOWNLOAD]
    )
    if url is None:
        link = BlobLink(tenant_id=file.tenant_id, sha256=file.sha256, size=file.size, filename=name)
        url = download_sign(origin=request.origin, link=link)
    response.status_code = 302
    response["Location"] = url
    response["Cache-Control"] = "no-store"
    return response
