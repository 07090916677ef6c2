"""Short-lived tokens that let a fetcher read one revision and nothing else. Made by serving for a replica, checked by
the hub."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.core import signing

from freehold.common.errors import NotAuthenticated

if TYPE_CHECKING:
    from freehold.registry.models import Revision

PREFIX: Final = "fetch."
SECONDS: Final = 3600

_SALT = "freehold.registry.fetch"


@dataclass(frozen=True, kw_only=True)
class FetchGrant:
    """What a token allows: reading this revision of this tenant."""

    tenant_id: uuid.UUID
    revision_id: uuid.UUID


def fetch_token_create(*, revision: Revision) -> str:
    """A token for `revision`, valid for an hour. It is a secret: hand it to the fetcher through its environment."""
    return PREFIX + signing.dumps([revision.tenant_id.hex, revision.pk.hex], salt=_SALT)


def fetch_token_verify(*, token: str) -> FetchGrant:
    """What `token` allows. Raises NotAuthenticated where it is not ours or is too old."""
    try:
        tenant, revision = signing.loads(token.removeprefix(PREFIX), salt=_SALT, max_age=SECONDS)
    except signing.SignatureExpired:
        raise NotAuthenticated("This fetch token has expired. The next attempt gets a new one.") from None
    except (signing.BadSignature, ValueError):
        raise NotAuthenticated("This fetch token is not valid.") from None
    return FetchGrant(tenant_id=uuid.UUID(tenant), revision_id=uuid.UUID(revision))
