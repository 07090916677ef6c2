"""Reads of a model: info, tree, paths, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.http import HttpResponse, JsonResponse

from freehold.hub.errors import ENTRY_NOT_FOUND, HubError
from freehold.hub.identity import actor_of, revision_of
from freehold.hub.requests import HubRequest, list_of
from freehold.registry import digests, names, selectors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from freehold.registry.models import ModelFile, Revision

_PAGE = 1000
_MOST_PATHS = 20_000


def info(request: HubRequest) -> HttpResponse:
    """A model at a revision, with its files. `freehold` holds our own: the revision's id, digest and inspection."""
    revision = _revision(request)
    files = selectors.files(revision=revision)
    blobs = request.flag("blobs")
    facts = revision.inspection
    model = revision.repo
    return JsonResponse(
        {
            "_id": model.public_id,
            "id": model.full_name,
            "modelId": model.full_name,
            "author": model.tenant.slug,
            "sha": revision.commit_id,
            "private": True,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [_sibling(file, blobs=blobs) for file in files],
            "safetensors": {"parameters": facts.get("dtypes") or {}, "total": facts.get("parameters") or 0},
            "usedStorage": sum(file.size for file in files),
            "createdAt": moment(model.created_at),
            "lastModified": moment(revision.created_at),
            "freehold": {
                "revision": revision.public_id,
                "status": revision.status,
                "digest": revision.digest,
                "inspection": facts,
            },
        }
    )


def tree(request: HubRequest) -> HttpResponse:
    """Files and folders by path, a page at a time; the next page is in the Link header (RFC 8288)."""
    revision = _revision(request)
    folder, recursive = request.part("path").strip("/"), request.flag("recursive")
    entries = _entries(selectors.files(revision=revision), folder, recursive=recursive)
    if folder and not entries:
        headers = {"X-Repo-Commit": revision.commit_id}
        raise HubError(404, f"There is no folder {folder!r} here.", code=ENTRY_NOT_FOUND, headers=headers)
    cursor = request.http.GET.get("cursor", "")
    limit = request.http.GET.get("limit", "")
    size = min(int(limit), _PAGE) if limit.isdigit() and int(limit) > 0 else _PAGE
    rest = [entry for entry in entries if entry["path"] > cursor]
    page = rest[:size]
    if request.flag("expand"):
        last = {"id": revision.commit_id, "title": revision.message, "date": moment(revision.created_at)}
        page = [{**entry, "lastCommit": last} for entry in page]
    response = JsonResponse(page, safe=False)
    if len(rest) > size:
        query = {**request.http.GET.dict(), "cursor": page[-1]["path"]}
        raw = request.http.get_full_path().partition("?")[0]
        response["Link"] = f'<{request.origin}{raw}?{urlencode(query)}>; rel="next"'
    response["X-Repo-Commit"] = revision.commit_id
    return response


def paths_info(request: HubRequest) -> HttpResponse:
    """What lies at each of the given paths; those with nothing are left out."""
    revision = _revision(request)
    wanted = set(map(str, list_of(request.form_or_json(), "paths", most=_MOST_PATHS)))
    files = selectors.files(revision=revision)
    entries = [*_folders(files, ""), *map(file_entry, files)]
    return JsonResponse([entry for entry in entries if entry["path"] in wanted], safe=False)


def history(request: HubRequest) -> HttpResponse:
    """The commits that led to a revision, newest first. Not for fetch tokens, which read one revision."""
    if request.caller is not None:
        actor_of(request.caller)
    line = selectors.history(revision=_revision(request))
    page, limit = request.http.GET.get("p", "0"), request.http.GET.get("limit", "50")
    size = min(int(limit), _PAGE) if limit.isdigit() and int(limit) > 0 else 50
    start = int(page) * size if page.isdigit() else 0
    response = JsonResponse([_commit(revision) for revision in line[start : start + size]], safe=False)
    response["X-Total-Count"] = str(len(line))
    if start + size < len(line):
        raw = request.http.get_full_path().partition("?")[0]
        query = {**request.http.GET.dict(), "p": str(start // size + 1)}
        response["Link"] = f'<{request.origin}{raw}?{urlencode(query)}>; rel="next"'
    return response


def moment(value: datetime) -> str:
    """A time as the Hub writes it: `2026-11-23T08:00:00.000Z`."""
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def file_entry(file: ModelFile) -> dict[str, Any]:
    """A file as trees show it. `sha256` is ours, for every file; `xetHash` never appears, so that nobody tries Xet."""
    entry: dict[str, Any] = {
        "type": "file",
        "path": file.path,
        "size": file.size,
        "oid": file.oid,
        "sha256": file.sha256,
    }
    if file.lfs:
        entry["lfs"] = _lfs(file)
    return entry


def _revision(request: HubRequest) -> Revision:
    name = request.part("revision") or names.DEFAULT_BRANCH
    return revision_of(request.caller, request.part("namespace"), request.part("name"), name)


def _sibling(file: ModelFile, *, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        sibling |= {"size": file.size, "blobId": file.oid}
        if file.lfs:
            sibling["lfs"] = {**_lfs(file), "sha256": file.sha256}
    return sibling


def _lfs(file: ModelFile) -> dict[str, Any]:
    pointer = digests.lfs_pointer(sha256=file.sha256, size=file.size)
    return {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}


def _entries(files: Iterable[ModelFile], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    inside = [file for file in files if file.path.startswith(prefix)]
    entries = [*_folders(inside, prefix), *map(file_entry, inside)]
    if not recursive:
        entries = [entry for entry in entries if "/" not in entry["path"][len(prefix) :]]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _folders(files: Iterable[ModelFile], prefix: str) -> list[dict[str, Any]]:
    """Every folder below `prefix` that holds a file. Its id only has to be stable: there are no Git trees here."""
    folders: set[str] = set()
    for file in files:
        parts = file.path[len(prefix) :].split("/")
        folders |= {prefix + "/".join(parts[:depth]) for depth in range(1, len(parts))}
    return [{"type": "directory", "path": path, "size": 0, "oid": digests.git_oid(path.encode())} for path in folders]


def _commit(revision: Revision) -> dict[str, Any]:
    return {
        "id": revision.commit_id,
        "title": revision.message,
        "message": revision.description,
        "date": moment(revision.created_at),
        "authors": [{"user": revision.author}],
    }
