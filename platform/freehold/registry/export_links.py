"""Signed, expiring URLs of a revision's tar: whoever holds one may load that one revision, without a key. Made by the
REST API and the console, taken by hub.exports."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.core import signing

from freehold.common.errors import PermissionDenied

if TYPE_CHECKING:
    from freehold.registry.models import Revision

EXPORTS_PREFIX: Final = "/exports/"
SECONDS: Final = 24 * 3600

_SALT = "freehold.registry.exports"


@dataclass(frozen=True, kw_only=True)
class ExportLink:
    """The revision that a link speaks of."""

    tenant_id: uuid.UUID
    revision_id: uuid.UUID


def export_sign(*, origin: str, revision: Revision) -> str:
    """The URL of a revision's tar, valid for a day. `origin` is `https://host`, without a slash at its end."""
    token = signing.dumps([revision.tenant_id.hex, revision.pk.hex], salt=_SALT)
    return f"{origin}{EXPORTS_PREFIX}{token}"


def export_verify(*, path: str) -> ExportLink:
    """The link of a request's path. Raises PermissionDenied where it is forged or has expired."""
    try:
        tenant, revision = signing.loads(path.removeprefix(EXPORTS_PREFIX), salt=_SALT, max_age=SECONDS)
    except signing.SignatureExpired:
        raise PermissionDenied("This link has expired. Ask for the archive again.") from None
    except (signing.BadSignature, ValueError):
        raise PermissionDenied("This is not a valid link to an archive.") from None
    return ExportLink(tenant_id=uuid.UUID(tenant), revision_id=uuid.UUID(revision))
