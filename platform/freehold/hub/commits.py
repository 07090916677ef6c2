"""POST …/commit/<branch>: a stream of JSON lines, one operation each, bounded whatever is sent."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from freehold.common.errors import Conflict, InvalidInput, NotFound, Refused
from freehold.db.connections import release
from freehold.hub.errors import ENTRY_NOT_FOUND, HubError
from freehold.hub.identity import actor_of, model_of
from freehold.hub.requests import HubRequest, text_of
from freehold.registry import services, trees

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from freehold.tenancy.actors import Actor

LINE_BYTES = 16 * 1024 * 1024
BODY_BYTES = 512 * 1024 * 1024

_FOLDER_OR_FILE = {"deletedFile": False, "deletedFolder": True}


def commit(request: HubRequest) -> HttpResponse:
    """Commits to a branch. 412 where the parent has moved, 422 with files and reasons where the content is refused."""
    actor, tenant_id = actor_of(request.caller)
    model = model_of(request.caller, request.part("namespace"), request.part("name"))
    release()  # reading takes as long as the body is large; others need the connection meanwhile
    header, operations = _read(request.http, actor, tenant_id)
    try:
        revision = services.revision_commit(
            actor=actor,
            tenant_id=tenant_id,
            repo=model.name,
            ref=request.part("revision"),
            parent=text_of(header, "parentCommit") or None,
            operations=operations,
            message=text_of(header, "summary") or "Upload",
            description=text_of(header, "description"),
        )
    except Conflict as error:
        raise HubError(412, error.message) from None
    except NotFound as error:
        raise HubError(404, error.message, code=ENTRY_NOT_FOUND) from None
    url = f"{request.origin}/{model.full_name}/commit/{revision.commit_id}"
    return JsonResponse({"success": True, "commitOid": revision.commit_id, "commitUrl": url, "hookOutput": ""})


def _read(http: HttpRequest, actor: Actor, tenant_id: uuid.UUID) -> tuple[dict[str, Any], list[trees.Operation]]:
    """The header, and the operations; the content of small files goes to the store line by line."""
    header: dict[str, Any] = {}
    operations: list[trees.Operation] = []
    for key, value in _lines(http):
        if key == "header":
            header = value
        elif key in _FOLDER_OR_FILE:
            operations.append(trees.Delete(path=text_of(value, "path"), folder=_FOLDER_OR_FILE[key]))
        elif key == "copyFile":
            source, path = text_of(value, "srcPath"), text_of(value, "path")
            operations.append(trees.Copy(source=source, path=path, revision=text_of(value, "srcRevision") or None))
        elif key == "file":
            entry = services.content_add(actor=actor, tenant_id=tenant_id, content=_content(value))
            operations.append(trees.Add(path=text_of(value, "path"), entry=entry))
        elif key == "lfsFile":
            operations.append(_large(value, tenant_id))
        else:
            raise InvalidInput(f"A commit has no operation {key!r}.")
        if len(operations) > trees.MOST_FILES:
            raise InvalidInput(f"A commit has at most {trees.MOST_FILES} operations. Split it.")
    return header, operations


def _large(value: dict[str, Any], tenant_id: uuid.UUID) -> trees.Add:
    path, sha256 = text_of(value, "path"), text_of(value, "oid")
    entry = services.content_find(tenant_id=tenant_id, sha256=sha256)
    if entry is None:
        raise Refused(
            f"{path}: its content (sha256 {sha256}) was not uploaded. Upload the file, then commit again.", field=path
        )
    return trees.Add(path=path, entry=entry)


def _content(value: dict[str, Any]) -> bytes:
    content = value.get("content", "")
    if not isinstance(content, str):
        raise InvalidInput("content must be text.", field="content")
    try:
        return base64.b64decode(content, validate=True) if value.get("encoding") == "base64" else content.encode()
    except (binascii.Error, ValueError):
        raise InvalidInput(f"The content of {text_of(value, 'path')!r} is neither UTF-8 nor base64.") from None


def _lines(http: HttpRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    total = 0
    while line := http.readline(LINE_BYTES + 1):
        total += len(line)
        if len(line) > LINE_BYTES or total > BODY_BYTES:
            raise HubError(413, "The commit is too large: send large files as blobs (LFS), and fewer at once.")
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            key, value = document["key"], document["value"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise InvalidInput("A line of the commit is not a JSON object with key and value.") from None
        if not isinstance(key, str) or not isinstance(value, dict):
            raise InvalidInput("A line of the commit is not a JSON object with key and value.")
        yield key, value
