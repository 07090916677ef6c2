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
from freehold.hub.identity import actor_of, model_of, revision_of
from freehold.hub.requests import HubRequest, text_of
from freehold.registry import services, trees
from freehold.tenancy.permissions import Operation, require

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from freehold.tenancy.actors import Actor

LINE_BYTES = 16 * 1024 * 1024
BODY_BYTES = 512 * 1024 * 1024
SUMMARY_CHARACTERS = 500
DESCRIPTION_CHARACTERS = 10_000

_TOGETHER = 500
_TOGETHER_BYTES = 16 * 1024 * 1024
_PENDING = trees.Entry(sha256="", size=0, oid="", lfs=False)
_FOLDER_OR_FILE = {"deletedFile": False, "deletedFolder": True}


def commit(request: HubRequest) -> HttpResponse:
    """Commits to a branch. 412 where the parent has moved, 422 with files and reasons where the content is refused."""
    actor, tenant_id = actor_of(request.caller)
    model = model_of(request.caller, request.part("namespace"), request.part("name"))
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    revision_of(request.caller, model.tenant.slug, model.name, request.part("revision"))
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
    small = _Small(actor=actor, tenant_id=tenant_id, operations=operations)
    for key, value in _lines(http):
        if key == "header":
            header = value
            _check_length(header)
        elif key in _FOLDER_OR_FILE:
            operations.append(trees.Delete(path=text_of(value, "path"), folder=_FOLDER_OR_FILE[key]))
        elif key == "copyFile":
            source, path = text_of(value, "srcPath"), text_of(value, "path")
            operations.append(trees.Copy(source=source, path=path, revision=text_of(value, "srcRevision") or None))
        elif key == "file":
            small.add(text_of(value, "path"), _content(value))
        elif key == "lfsFile":
            operations.append(_large(value))
        else:
            raise InvalidInput(f"A commit has no operation {key!r}.")
        if len(operations) > trees.MOST_FILES:
            raise InvalidInput(f"A commit has at most {trees.MOST_FILES} operations. Split it.")
    small.flush()
    return header, _resolved(operations, tenant_id)


def _check_length(header: dict[str, Any]) -> None:
    """Said before anything is stored, instead of cutting what somebody wrote."""
    for name, most in (("summary", SUMMARY_CHARACTERS), ("description", DESCRIPTION_CHARACTERS)):
        length = len(text_of(header, name))
        if length > most:
            raise InvalidInput(f"A commit's {name} has at most {most} characters; this one has {length}.", field=name)


class _Small:
    """Files whose content is in the commit itself: stored some at a time, in two transactions each time."""

    def __init__(self, *, actor: Actor, tenant_id: uuid.UUID, operations: list[trees.Operation]) -> None:
        self._actor, self._tenant_id, self._operations = actor, tenant_id, operations
        self._waiting: list[tuple[int, bytes]] = []
        self._bytes = 0

    def add(self, path: str, content: bytes) -> None:
        """Takes a file. Its place among the operations is kept."""
        self._waiting.append((len(self._operations), content))
        self._operations.append(trees.Add(path=path, entry=_PENDING))
        self._bytes += len(content)
        if self._bytes > _TOGETHER_BYTES or len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Stores what waits."""
        contents = [content for _, content in self._waiting]
        entries = services.contents_add(actor=self._actor, tenant_id=self._tenant_id, contents=contents)
        for (place, _), entry in zip(self._waiting, entries, strict=True):
            self._operations[place] = trees.Add(path=self._operations[place].path, entry=entry)
        self._waiting, self._bytes = [], 0


def _large(value: dict[str, Any]) -> trees.Add:
    entry = trees.Entry(sha256=text_of(value, "oid"), size=-1, oid="", lfs=True)
    return trees.Add(path=text_of(value, "path"), entry=entry)


def _resolved(operations: list[trees.Operation], tenant_id: uuid.UUID) -> list[trees.Operation]:
    """The operations, with what is known of the large files they name. Raises Refused for those not uploaded."""
    large = {each.entry.sha256 for each in operations if isinstance(each, trees.Add) and each.entry.size < 0}
    known = services.contents_find(tenant_id=tenant_id, sha256s=large)
    resolved: list[trees.Operation] = []
    for operation in operations:
        if isinstance(operation, trees.Add) and operation.entry.size < 0:
            sha256 = operation.entry.sha256
            if sha256 not in known:
                raise Refused(
                    f"{operation.path}: its content (sha256 {sha256}) was not uploaded. Upload the file, then commit "
                    "again.",
                    field=operation.path,
                )
            operation = trees.Add(path=operation.path, entry=known[sha256])
        resolved.append(operation)
    return resolved


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
