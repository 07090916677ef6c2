"""Everything before a commit: how each file is to be sent, where its bytes go, whether they have arrived."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse, JsonResponse

from freehold.common.errors import InvalidInput, NotFound
from freehold.hub.errors import HubError
from freehold.hub.identity import actor_of, model_of, revision_of
from freehold.hub.requests import HubRequest, list_of, text_of
from freehold.registry import selectors, services
from freehold.registry.choices import RevisionStatus
from freehold.registry.content_links import SECONDS, Direction, UploadLink, upload_sign
from freehold.registry.inspection.paths import path_problem
from freehold.registry.inspection.pickles import name_problem
from freehold.registry.storage import object_store
from freehold.tenancy.permissions import Operation, require

if TYPE_CHECKING:
    from freehold.registry.models import Upload

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
    # Of a revision that was refused, clients are to send everything again: content of it is gone.
    known = [] if revision.status == RevisionStatus.REFUSED else selectors.files(revision=revision)
    present = {file.path: file for file in known}
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
    """Where to PUT each object (Git LFS batch API). One that is there already needs no action.

    A large one comes in parts where the client offers `multipart`, as huggingface_hub does (its lfs.py): the action's
    `header` then holds `chunk_size` and the URL of each part, and its `href` takes the POST that ends it.
    """
    actor, tenant_id = actor_of(request.caller)
    model_of(request.caller, request.part("namespace"), request.part("name"))
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    body = request.json()
    if body.get("operation") != "upload":
        raise InvalidInput("Only uploads go this way: download from /resolve/ instead.", field="operation")
    transfers = body.get("transfers")
    in_parts = isinstance(transfers, list) and "multipart" in transfers
    verify = f"{request.origin}/{request.part('namespace')}/{request.part('name')}.git/info/lfs/verify"
    wanted = [_named(item) for item in list_of(body, "objects", most=_MOST_FILES)]
    resumed = services.uploads_resume(actor=actor, tenant_id=tenant_id, wanted=wanted)
    objects: list[dict[str, Any]] = []
    several = False
    for content in wanted:
        answer: dict[str, Any] = {"oid": content.sha256, "size": content.size, "authenticated": True}
        upload = resumed[content.sha256]
        if upload is not None:
            multipart = in_parts and bool(upload.upload.multipart_id)
            action = _in_parts(request.origin, upload) if multipart else _whole(request.origin, upload.upload)
            answer["actions"] = {"upload": action, "verify": {"href": verify}}
            several = several or multipart
        objects.append(answer)
    document = {"transfer": "multipart" if several else "basic", "objects": objects}
    return JsonResponse(document, content_type="application/vnd.git-lfs+json")


def _whole(origin: str, upload: Upload) -> dict[str, Any]:
    url = object_store().upload_url(
        upload.tenant_id, sha256=upload.sha256, size=upload.size, seconds=SECONDS[Direction.UPLOAD]
    )
    return {"href": url or upload_sign(origin=origin, link=_link(upload))}


def _in_parts(origin: str, resumed: services.Resumed) -> dict[str, Any]:
    """A part that is there gets a link of ours, even where the store has its own: it is answered without being read."""
    upload, store = resumed.upload, object_store()
    multipart = upload.multipart
    header = {"chunk_size": str(multipart.part_bytes)}
    for number in range(1, multipart.parts + 1):
        url = None
        if number not in resumed.parts:
            url = store.part_url(multipart, number=number, seconds=SECONDS[Direction.UPLOAD])
        header[str(number)] = url or upload_sign(origin=origin, link=_link(upload, part=number))
    return {"href": upload_sign(origin=origin, link=_link(upload)), "header": header}


def _link(upload: Upload, *, part: int = 0) -> UploadLink:
    return UploadLink(
        tenant_id=upload.tenant_id, upload_id=upload.pk, sha256=upload.sha256, size=upload.size, part=part
    )


def lfs_verify(request: HubRequest) -> HttpResponse:
    """Whether an upload has arrived whole. For content that went straight to the store this is the first we hear of
    it."""
    actor, tenant_id = actor_of(request.caller)
    require(actor, Operation.MODEL_WRITE, tenant_id=tenant_id)
    wanted = _named(request.json())
    if not services.content_arrived(actor=actor, tenant_id=tenant_id, content=wanted):
        raise NotFound(
            f"No content with the sha256 {wanted.sha256} and {wanted.size} bytes has arrived. Upload it again."
        )
    return JsonResponse({})


def _named(item: Any) -> services.Content:
    document = item if isinstance(item, dict) else {}
    sha256, size = text_of(document, "oid"), document.get("size")
    if not _SHA256.fullmatch(sha256) or type(size) is not int or not 0 <= size <= _LARGEST:
        raise InvalidInput("An object is named by its SHA-256 (64 hex characters) and its size.", field="objects")
    return services.Content(sha256=sha256, size=size)


def xet_token(request: HubRequest) -> HttpResponse:
    """Clients ask for this before they try Xet; there is no way to tell them beforehand that there is none.

    huggingface_hub 2 asks from Rust and shows its user nothing of an error but the status and the address. So the
    address says it: this redirects to one that names the variable.
    """
    return HttpResponse(status=307, headers={"Location": f"{request.origin}{XET_ADDRESS}"})


def xet_refused(request: HubRequest) -> HttpResponse:
    """Where xet_token leads: the error in full."""
    raise HubError(422, _XET)
