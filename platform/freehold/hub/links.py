"""Signed, expiring URLs of blobs: whoever holds one may move that one blob, without an Authorization header."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

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
    """What a link speaks of: one content of one tenant. `filename` is what a browser saves a download as."""

    tenant_id: uuid.UUID
    sha256: str
    size: int
    filename: str = ""


def link_sign(*, origin: str, direction: Direction, link: BlobLink) -> str:
    """The URL, valid for SECONDS[direction]. `origin` is `https://host`, without a slash at its end."""
    content = [link.tenant_id.hex, link.sha256, link.size, link.filename]
    return f"{origin}{BLOBS_PREFIX}{signing.dumps(content, salt=_salt(direction))}"


def link_verify(*, path: str, direction: Direction) -> BlobLink:
    """The link of a request's path. Raises PermissionDenied: forged, expired, or made for the other direction."""
    token = path.removeprefix(BLOBS_PREFIX)
    try:
        tenant, sha256, size, filename = signing.loads(token, salt=_salt(direction), max_age=SECONDS[direction])
    except signing.SignatureExpired:
        raise PermissionDenied(f"This {direction} link has expired. Start the {direction} again.") from None
    except (signing.BadSignature, ValueError):
        raise PermissionDenied(f"This is not a valid {direction} link.") from None
    return BlobLink(tenant_id=uuid.UUID(tenant), sha256=sha256, size=size, filename=filename)


def _salt(direction: Direction) -> str:
    return f"freehold.hub.blobs.{direction}"
