"""The one Django view of the hub: routes on the undecoded path, authenticates, turns errors into the Hub's shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from freehold.common.errors import FreeholdError
from freehold.hub import absent, commits, listing, reads, refs, repos, resolve, uploads
from freehold.hub.errors import REPO_NOT_FOUND, HubError, RepoMoved, response_of
from freehold.hub.identity import caller_of
from freehold.hub.requests import HubRequest
from freehold.registry.names import is_holdable

View = Callable[[HubRequest], HttpResponse]

_KIND = r"(?:models|datasets|spaces|kernels)"
_REPO = r"/api/models/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
_PLAIN = r"/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
_REV = r"(?P<revision>[^/]+)"
_PATH = r"(?P<path>.+)"

_NOT_OF_MODELS = (
    r"(?P<what>discussions|duplicate|like|likers|user-access-request|resource-group|safetensors-metadata|scan)"
)
_NOT_OF_HUB = (
    r"(?P<what>collections|papers|daily_papers|jobs|scheduled-jobs|buckets|notifications|sandboxes|organizations|users|"
    r"models-tags-by-type|event)"
)

_ROUTES: list[tuple[set[str], re.Pattern[str], View]] = [
    (methods, re.compile(pattern), view)
    for methods, pattern, view in [
        ({"GET"}, r"/api/whoami-v2", repos.whoami),
        ({"POST"}, r"/api/validate-yaml", repos.validate_yaml),
        ({"POST"}, r"/api/repos/create", repos.create),
        ({"POST"}, r"/api/repos/move", repos.move),
        ({"DELETE"}, r"/api/repos/delete", repos.delete),
        ({"GET"}, r"/api/settings/repositories", listing.repositories),
        ({"GET"}, r"/api/organizations/(?P<namespace>[^/]+)/settings/repositories", listing.repositories),
        ({"GET"}, r"/api/models", listing.models),
        ({"GET"}, rf"{_REPO}(?:/revision/{_REV})?", reads.info),
        ({"GET"}, rf"{_REPO}/tree/{_REV}(?:/{_PATH})?", reads.tree),
        ({"POST"}, rf"{_REPO}/paths-info/{_REV}", reads.paths_info),
        ({"GET"}, rf"{_REPO}/commits/{_REV}", reads.history),
        ({"GET"}, rf"{_REPO}/lfs-files", reads.large_files),
        ({"POST"}, rf"{_REPO}/lfs-files/batch", absent.deletion),
        ({"GET"}, rf"{_REPO}/auth-check(?:/(?P<mode>write))?", repos.auth_check),
        ({"PUT"}, rf"{_REPO}/settings", repos.settings),
        ({"GET"}, rf"{_REPO}/refs", refs.listing),
        ({"POST", "DELETE"}, rf"{_REPO}/branch/{_PATH}", refs.branch),
        ({"POST", "DELETE"}, rf"{_REPO}/tag/{_PATH}", refs.tag),
        ({"POST"}, rf"{_REPO}/super-squash/{_REV}", refs.squash),
        ({"POST"}, rf"{_REPO}/preupload/{_REV}", uploads.preupload),
        ({"POST"}, rf"{_REPO}/commit/{_REV}", commits.commit),
        ({"GET", "POST"}, rf"/api/{_KIND}/.*/xet-(?:write|read)-token/.*", uploads.xet_token),
        ({"GET", "POST"}, re.escape(uploads.XET_ADDRESS), uploads.xet_refused),
        ({"POST"}, rf"{_PLAIN}\.git/info/lfs/objects/batch", uploads.lfs_batch),
        ({"POST"}, rf"{_PLAIN}\.git/info/lfs/verify", uploads.lfs_verify),
        ({"GET", "HEAD"}, rf"{_PLAIN}/resolve/{_REV}/{_PATH}", resolve.resolve),
        ({"GET", "HEAD", "POST"}, r"/api/telemetry(?:/.*)?", absent.telemetry),
        ({"GET"}, r"/api/agent-harnesses", absent.harnesses),
        ({"GET", "POST", "PUT", "DELETE"}, rf"{_REPO}/{_NOT_OF_MODELS}(?:/.*)?", absent.of_model),
        ({"GET", "POST", "PUT", "DELETE"}, rf"/api/{_NOT_OF_HUB}(?:/.*)?", absent.of_hub),
    ]
]
_OTHER_KINDS = re.compile(r"/(?:api/)?(?:datasets|spaces|kernels)(?:/.*)?")
_BARE_NAME = re.compile(r"/api/models/[^/]+(?:/(?:revision|tree)/.+)?|/[^/]+/resolve/.+")


@csrf_exempt  # nothing here looks at cookies
def door(request: HttpRequest) -> HttpResponse:
    """Answers every request to the hub, its errors included."""
    try:
        view, found = _route(request)
        parts = {name: unquote(value) for name, value in found.groupdict().items() if value is not None}
        asked = HubRequest(http=request, caller=caller_of(request), parts=parts)
        absent.pull_request(asked)
        try:
            return view(asked)
        except RepoMoved as moved:
            return _redirect(request, found, moved)
    except (HubError, FreeholdError) as error:
        return response_of(error)


def _route(request: HttpRequest) -> tuple[View, re.Match[str]]:
    path, known = _raw_path(request), False
    if not is_holdable(unquote(path)):
        raise HubError(404, "There is no such address on this hub.")
    for methods, pattern, view in _ROUTES:
        found = pattern.fullmatch(path)
        if found is None:
            continue
        if request.method in methods:
            return view, found
        known = True
    if known:
        raise HubError(405, f"This address does not know {request.method}.")
    if _OTHER_KINDS.fullmatch(path):
        raise HubError(400, "Freehold keeps models only: there are no datasets, spaces or kernels here.")
    if _BARE_NAME.fullmatch(path):
        message = "A model is named `tenant/model` here: there are none without a tenant."
        raise HubError(404, message, code=REPO_NOT_FOUND)
    raise HubError(404, "There is no such address on this hub.")


def _redirect(request: HttpRequest, found: re.Match[str], moved: RepoMoved) -> HttpResponse:
    """307 to the same address under the model's new name, relative, as the Hub does: clients send the request again,
    with its method, body and key. Where the name is in the body, the client is told."""
    if "name" not in found.groupdict():
        message = f"{moved.before} was renamed to {moved.now}. Use that name."
        raise HubError(404, message, code=REPO_NOT_FOUND)
    path, query = found.string, request.META.get("QUERY_STRING", "")
    address = f"{path[: found.start('name')]}{quote(moved.now)}{path[found.end('name') :]}"
    return HttpResponse(status=307, headers={"Location": f"{address}?{query}" if query else address})


def _raw_path(request: HttpRequest) -> str:
    """The path as it was sent: `feature%2Fx` in one segment is a branch with a slash, and Django has decoded it."""
    raw = getattr(request, "scope", {}).get("raw_path")
    if not raw:
        return quote(request.path)
    return bytes(raw).decode("latin-1").partition("?")[0]
