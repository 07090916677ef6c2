"""Signed, expiring URLs of blobs: whoever holds one may move that one blob, without an Authorization header."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from django.core import signing

from freehold.common.errors import PermissionDenied

BLOBS_PREFIX: Final = "/blobs/"


class Direction(StrEnum):
    """What a link is for; each is signed apart, so that one never passes for the other."""

    UPLOAD = "upload"
    DOWNLOAD = "download"


SECONDS: Final = {Direction.UPLOAD: 24 * 3600, Direction.DOWNLOAD: 3600}


@dataclass(frozen=True, kw_only=True)
class BlobLink:
    """One content of one tenant, to download. `filename` is what a browser saves it as."""

    tenant_id: uuid.UUID
    sha256: str
    size: int
    filename: str = ""


@dataclass(frozen=True, kw_only=True)
class UploadLink:
    """What may be sent through a link: a whole upload (part 0; POST to it ends one that came in parts), or one part.
    `sha256` and `size` are the whole content's, so that it is known when the upload has ended meanwhile."""

    tenant_id: uuid.UUID
    upload_id: uuid.UUID
    sha256: str
    size: int
    part: int = 0


def upload_sign(*, origin: str, link: UploadLink) -> str:
    """The URL of an upload, valid for SECONDS[UPLOAD]. `origin` is `https://host`, without a slash at its end."""
    content = [link.tenant_id.hex, link.upload_id.hex, link.sha256, link.size, link.part]
    return f"{origin}{BLOBS_PREFIX}{signing.dumps(content, salt=_salt(Direction.UPLOAD))}"


def upload_verify(*, path: str) -> UploadLink:
    """The link of a request's path. Raises PermissionDenied: forged, expired, or made for downloads."""
    tenant, upload, sha256, size, part = _content(path, Direction.UPLOAD)
    return UploadLink(tenant_id=uuid.UUID(tenant), upload_id=uuid.UUID(upload), sha256=sha256, size=size, part=part)


def download_sign(*, origin: str, link: BlobLink) -> str:
    """The URL of a content, valid for SECONDS[DOWNLOAD]."""
    content = [link.tenant_id.hex, link.sha256, link.size, link.filename]
    return f"{origin}{BLOBS_PREFIX}{signing.dumps(content, salt=_salt(Direction.DOWNLOAD))}"


def download_verify(*, path: str) -> BlobLink:
    """The link of a request's path. Raises PermissionDenied: forged, expired, or made for uploads."""
    tenant, sha256, size, filename = _content(path, Direction.DOWNLOAD)
    return BlobLink(tenant_id=uuid.UUID(tenant), sha256=sha256, size=size, filename=filename)


def _content(path: str, direction: Direction) -> list[Any]:
    try:
        content: list[Any] = signing.loads(
            path.removeprefix(BLOBS_PREFIX), salt=_salt(direction), max_age=SECONDS[direction]
        )
    except signing.SignatureExpired:
        raise PermissionDenied(f"This {direction} link has expired. Start the {direction} again.") from None
    except (signing.BadSignature, ValueError):
        raise PermissionDenied(f"This is not a valid {direction} link.") from None
    return content


def _salt(direction: Direction) -> str:
    return f"freehold.hub.blobs.{direction}"
