"""The one Django view of the hub: routes on the undecoded path, authenticates, turns errors into the Hub's shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from freehold.common.errors import FreeholdError
from freehold.hub import commits, reads, refs, repos, resolve, uploads
from freehold.hub.errors import HubError, response_of
from freehold.hub.identity import caller_of
from freehold.hub.requests import HubRequest
from freehold.registry.names import is_holdable

View = Callable[[HubRequest], HttpResponse]

_KIND = r"(?:models|datasets|spaces|kernels)"
_REPO = r"/api/models/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
_PLAIN = r"/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
_REV = r"(?P<revision>[^/]+)"
_PATH = r"(?P<path>.+)"

_ROUTES: list[tuple[set[str], re.Pattern[str], View]] = [
    (methods, re.compile(pattern), view)
    for methods, pattern, view in [
        ({"GET"}, r"/api/whoami-v2", repos.whoami),
        ({"POST"}, r"/api/validate-yaml", repos.validate_yaml),
        ({"POST"}, r"/api/repos/create", repos.create),
        ({"DELETE"}, r"/api/repos/delete", repos.delete),
        ({"GET"}, r"/api/models", repos.listing),
        ({"GET"}, rf"{_REPO}(?:/revision/{_REV})?", reads.info),
        ({"GET"}, rf"{_REPO}/tree/{_REV}(?:/{_PATH})?", reads.tree),
        ({"POST"}, rf"{_REPO}/paths-info/{_REV}", reads.paths_info),
        ({"GET"}, rf"{_REPO}/commits/{_REV}", reads.history),
        ({"GET"}, rf"{_REPO}/refs", refs.listing),
        ({"POST", "DELETE"}, rf"{_REPO}/branch/{_PATH}", refs.branch),
        ({"POST", "DELETE"}, rf"{_REPO}/tag/{_PATH}", refs.tag),
        ({"POST"}, rf"{_REPO}/preupload/{_REV}", uploads.preupload),
        ({"POST"}, rf"{_REPO}/commit/{_REV}", commits.commit),
        ({"GET", "POST"}, rf"/api/{_KIND}/.*/xet-(?:write|read)-token/.*", uploads.xet_token),
        ({"GET", "POST"}, re.escape(uploads.XET_ADDRESS), uploads.xet_refused),
        ({"POST"}, rf"{_PLAIN}\.git/info/lfs/objects/batch", uploads.lfs_batch),
        ({"POST"}, rf"{_PLAIN}\.git/info/lfs/verify", uploads.lfs_verify),
        ({"GET", "HEAD"}, rf"{_PLAIN}/resolve/{_REV}/{_PATH}", resolve.resolve),
    ]
]
_OTHER_KINDS = re.compile(r"/(?:api/)?(?:datasets|spaces|kernels)(?:/.*)?")


@csrf_exempt  # nothing here looks at cookies
def door(request: HttpRequest) -> HttpResponse:
    """Answers every request to the hub, its errors included."""
    try:
        view, parts = _route(request)
        return view(HubRequest(http=request, caller=caller_of(request), parts=parts))
    except (HubError, FreeholdError) as error:
        return response_of(error)


def _route(request: HttpRequest) -> tuple[View, dict[str, str]]:
    path, known = _raw_path(request), False
    if not is_holdable(unquote(path)):
        raise HubError(404, "There is no such address on this hub.")
    for methods, pattern, view in _ROUTES:
        found = pattern.fullmatch(path)
        if found is None:
            continue
        if request.method in methods:
            return view, {name: unquote(value) for name, value in found.groupdict().items() if value is not None}
        known = True
    if known:
        raise HubError(405, f"This address does not know {request.method}.")
    if _OTHER_KINDS.fullmatch(path):
        raise HubError(400, "Freehold keeps models only: there are no datasets, spaces or kernels here.")
    raise HubError(404, "There is no such address on this hub.")


def _raw_path(request: HttpRequest) -> str:
    """The path as it was sent: `feature%2Fx` in one segment is a branch with a slash, and Django has decoded it."""
    raw = getattr(request, "scope", {}).get("raw_path")
    if not raw:
        return quote(request.path)
    return bytes(raw).decode("latin-1").partition("?")[0]
