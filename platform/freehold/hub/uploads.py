"""Everything before a commit: how each file is to be sent, where its bytes go, whether they have arrived."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import PurePosixPath
from typing import Any

from django.http import HttpResponse, JsonResponse

from freehold.common.errors import InvalidInput
from freehold.hub.errors import HubError
from freehold.hub.identity import actor_of, model_of, revision_of
from freehold.hub.links import BlobLink, Direction, link_sign
from freehold.hub.requests import HubRequest, list_of, text_of
from freehold.registry import selectors, services
from freehold.registry.inspection.paths import path_problem
from freehold.registry.inspection.pickles import name_problem
from freehold.tenancy.permissions import Operation, require

# Larger files, binary files and these by name travel as blobs; the rest inside the commit.
REGULAR_BYTES = 1024 * 1024
_BLOB_SUFFIXES = frozenset({".safetensors", ".gguf", ".onnx", ".h5", ".model", ".msgpack", ".parquet", ".zip"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_FILES = 1000
_LARGEST = 2**50

XET_ADDRESS = "/api/no-xet-here/set-HF_HUB_DISABLE_XET=1-and-upload-again"
_XET = (
    "This hub does not take Xet uploads. Set the environment variable HF_HUB_DISABLE_XET=1 and upload again: the same "
    "tools then send files over plain HTTP."
)


def preupload(request: HubRequest) -> HttpResponse:
    """How to send each file. What is refused by its name alone is refused here, before a byte of it moves."""
    actor, tenant_id = actor_of(request.caller)
    revision = revision_of(request.caller, request.part("namespace"), request.part("name"), request.part("revision"))
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    present = {file.path: file for file in selectors.files(revision=revision)}
    answers: list[dict[str, Any]] = []
    for item in list_of(request.json(), "files", most=_MOST_FILES):
        path, size, sample = _asked(item)
        problem = path_problem(path) or name_problem(path)
        if problem is not None:
            raise HubError(422, str(problem))
        blob = _travels_as_blob(path, size, sample)
        before = present.get(path)
        oid = None if before is None or before.lfs != blob else before.sha256 if blob else before.oid
        answers.append({"path": path, "uploadMode": "lfs" if blob else "regular", "shouldIgnore": False, "oid": oid})
    return JsonResponse({"files": answers})


def _asked(item: Any) -> tuple[str, int, bytes]:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str) or type(item.get("size")) is not int:
        raise InvalidInput("Each file needs a path and a size.", field="files")
    try:
        sample = base64.b64decode(item.get("sample") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidInput("A sample is not base64.", field="files") from None
    return item["path"], item["size"], sample


def _travels_as_blob(path: str, size: int, sample: bytes) -> bool:
    if size == 0:
        return False
    return size > REGULAR_BYTES or PurePosixPath(path.lower()).suffix in _BLOB_SUFFIXES or b"\0" in sample


def lfs_batch(request: HubRequest) -> HttpResponse:
    """Where to PUT each object (Git LFS batch API, basic transfer). One that is there already needs no action."""
    actor, tenant_id = actor_of(request.caller)
    model_of(request.caller, request.part("namespace"), request.part("name"))
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    body = request.json()
    if body.get("operation") != "upload":
        raise InvalidInput("Only uploads go this way: download from /resolve/ instead.", field="operation")
    verify = f"{request.origin}/{request.part('namespace')}/{request.part('name')}.git/info/lfs/verify"
    objects: list[dict[str, Any]] = []
    for item in list_of(body, "objects", most=_MOST_FILES):
        sha256, size = _named(item)
        answer: dict[str, Any] = {"oid": sha256, "size": size, "authenticated": True}
        entry = services.content_find(tenant_id=tenant_id, sha256=sha256)
        if entry is None or entry.size != size:
            link = BlobLink(tenant_id=tenant_id, sha256=sha256, size=size)
            upload = link_sign(origin=request.origin, direction=Direction.UPLOAD, link=link)
            answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        objects.append(answer)
    return JsonResponse({"transfer": "basic", "objects": objects}, content_type="application/vnd.git-lfs+json")


def lfs_verify(request: HubRequest) -> HttpResponse:
    """Whether an upload has arrived whole."""
    actor, tenant_id = actor_of(request.caller)
    sha256, size = _named(request.json())
    services.blob_register(actor=actor, tenant_id=tenant_id, sha256=sha256, size=size)
    return JsonResponse({})


def _named(item: Any) -> tuple[str, int]:
    document = item if isinstance(item, dict) else {}
    sha256, size = text_of(document, "oid"), document.get("size")
    if not _SHA256.fullmatch(sha256) or type(size) is not int or not 0 <= size <= _LARGEST:
        raise InvalidInput("An object is named by its SHA-256 (64 hex characters) and its size.", field="objects")
    return sha256, size


def xet_token(request: HubRequest) -> HttpResponse:
    """Clients ask for this before they try Xet; there is no way to tell them beforehand that there is none.

    huggingface_hub 2 asks from Rust and shows its user nothing of an error but the status and the address. So the
    address says it: this redirects to one that names the variable.
    """
    return HttpResponse(status=307, headers={"Location": f"{request.origin}{XET_ADDRESS}"})


def xet_refused(request: HubRequest) -> HttpResponse:
    """Where xet_token leads: the error in full."""
    raise HubError(422, _XET)
