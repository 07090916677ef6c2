"""Reads of one model: info, tree, paths, history, large files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse, JsonResponse
from django.utils.html import escape

from freehold.hub import entries
from freehold.hub.errors import ENTRY_NOT_FOUND, HubError
from freehold.hub.identity import actor_of, model_of, revision_of
from freehold.hub.pages import page_response, size_of
from freehold.hub.requests import HubRequest, list_of
from freehold.registry import digests, histories, names, selectors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freehold.registry.models import ModelFile, Revision

_PAGE = 1000
_EXPANDED_PAGE = 100
_COMMITS_PAGE = 50
_MOST_PATHS = 20_000
_SAFE = {"status": "safe", "avScan": None, "pickleImportScan": None}  # what is not safe never becomes a revision


def info(request: HubRequest) -> HttpResponse:
    """A model at a revision, with its files. `freehold` holds our own: the revision's id, digest and inspection."""
    revision = _revision(request)
    properties = entries.wanted(request, entries.ONE)
    whole = properties is entries.ONE
    if request.flag("securityStatus"):
        properties = (*properties, "securityRepoStatus")
    files = selectors.files(revision=revision)
    blobs = request.flag("blobs")
    own = {
        "revision": revision.public_id,
        "status": revision.status,
        "digest": revision.digest,
        "inspection": revision.inspection,
    }
    shown = entries.Shown(
        public_id=revision.repo.public_id,
        full_name=revision.repo.full_name,
        author=revision.repo.tenant.slug,
        description=revision.repo.description,
        created_at=revision.repo.created_at,
        sha=revision.commit_id,
        modified_at=revision.created_at,
        facts=revision.inspection,
        siblings=[_sibling(file, blobs=blobs) for file in files],
        used_bytes=sum({file.sha256: file.size for file in files}.values()),
        extra={"freehold": own} if whole else {},
    )
    return JsonResponse(entries.document(shown, properties))


def tree(request: HubRequest) -> HttpResponse:
    """Files and folders by path, a page at a time."""
    revision = _revision(request)
    folder, recursive = request.part("path").strip("/"), request.flag("recursive")
    found = _entries(selectors.files(revision=revision), folder, recursive=recursive)
    if folder and not found:
        headers = {"X-Repo-Commit": revision.commit_id}
        raise HubError(404, f"There is no folder {folder!r} here.", code=ENTRY_NOT_FOUND, headers=headers)
    cursor, expand = request.http.GET.get("cursor", ""), request.flag("expand")
    size = size_of(request, most=_EXPANDED_PAGE if expand else _PAGE)
    rest = [entry for entry in found if entry["path"] > cursor]
    page = _expanded(request, revision, rest[:size]) if expand else rest[:size]
    after = {"cursor": str(page[-1]["path"])} if len(rest) > size else None
    response = page_response(request, page, after=after)
    response["X-Repo-Commit"] = revision.commit_id
    return response


def paths_info(request: HubRequest) -> HttpResponse:
    """What lies at each of the given paths; those with nothing are left out."""
    revision = _revision(request)
    form = request.form_or_json()
    wanted = set(map(str, list_of(form, "paths", most=_MOST_PATHS)))
    files = selectors.files(revision=revision)
    found = [entry for entry in [*_folders(files, ""), *map(file_entry, files)] if entry["path"] in wanted]
    if form.get("expand") in (True, ["true"], ["True"], ["1"]):
        found = _expanded(request, revision, found)
    return JsonResponse(found, safe=False)


def history(request: HubRequest) -> HttpResponse:
    """The commits that led to a revision, newest first. Not for fetch tokens, which read one revision."""
    if request.caller is not None:
        actor_of(request.caller)
    line = selectors.history(revision=_revision(request))
    page, size = request.http.GET.get("p", "0"), size_of(request, most=_COMMITS_PAGE)
    start = int(page) * size if page.isascii() and page.isdigit() and len(page) < 9 else 0
    formatted = "formatted" in request.http.GET.getlist("expand[]")
    commits = [_commit(revision, formatted=formatted) for revision in line[start : start + size]]
    after = {"p": str(start // size + 1)} if start + size < len(line) else None
    response = page_response(request, commits, after=after)
    response["X-Total-Count"] = str(len(line))
    return response


def large_files(request: HubRequest) -> HttpResponse:
    """Every content that travels as a blob, in any revision, once: `HfApi.list_lfs_files`."""
    model = model_of(request.caller, request.part("namespace"), request.part("name"))
    listed = [
        {
            "fileOid": file.sha256,
            "filename": file.path,
            "oid": file.sha256,
            "pushedAt": entries.moment(file.created_at),
            "ref": None,
            "size": file.size,
        }
        for file in selectors.large_files(model=model)
    ]
    return JsonResponse(listed, safe=False)


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


def _commit(revision: Revision, *, formatted: bool) -> dict[str, Any]:
    commit: dict[str, Any] = {
        "id": revision.commit_id,
        "title": revision.message,
        "message": revision.description,
        "date": entries.moment(revision.created_at),
        "authors": [{"user": revision.author}],
    }
    if formatted:
        commit["formatted"] = {"title": escape(revision.message), "message": escape(revision.description)}
    return commit


def _expanded(request: HubRequest, revision: Revision, page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries with the commit that last changed each. Not for fetch tokens, which read one revision."""
    changes: dict[str, Revision] = {}
    if request.caller is not None and request.caller.actor is not None:
        changes = histories.last_changes(revision=revision, paths=[entry["path"] for entry in page])
    expanded = []
    for entry in page:
        extra: dict[str, Any] = {"securityFileStatus": _SAFE} if entry["type"] == "file" else {}
        if change := changes.get(entry["path"]):
            date = entries.moment(change.created_at)
            extra["lastCommit"] = {"id": change.commit_id, "title": change.message, "date": date}
        expanded.append({**entry, **extra})
    return expanded
