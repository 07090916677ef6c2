"""`Authorization: Bearer fh_…` → Principal. Named in settings.REST_FRAMEWORK; every view but the schema asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header

from freehold.common.errors import NotAuthenticated
from freehold.tenancy.actors import Actor
from freehold.tenancy.models import Tenant
from freehold.tenancy.selectors import api_key_authenticate

if TYPE_CHECKING:
    from rest_framework.request import Request

CHALLENGE = 'Bearer realm="freehold"'  # RFC 6750, section 3


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: `request.user` of an authenticated request. The key names the tenant, so the address need not."""

    actor: Actor
    tenant: Tenant

    @property
    def is_authenticated(self) -> bool:
        """For DRF's IsAuthenticated."""
        return True


class ApiKeyAuthentication(BaseAuthentication):
    """API keys as bearer tokens. No cookies: the API cannot be called across sites on somebody's behalf."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        """None without a bearer token. Raises NotAuthenticated, or PermissionDenied for a suspended tenant."""
        scheme, _, secret = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if not secret.strip():
            raise NotAuthenticated("The Authorization header has no token. Send `Authorization: Bearer fh_…`.")
        actor, tenant = api_key_authenticate(secret=secret.strip())
        return Principal(actor=actor, tenant=tenant), None

    def authenticate_header(self, request: Request) -> str:
        """Makes DRF answer 401 instead of 403 where credentials are missing."""
        return CHALLENGE


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # registers itself when it is defined
    """How the OpenAPI schema describes it."""

    target_class = "freehold.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """OpenAPI's security scheme object."""
        return {"type": "http", "scheme": "bearer", "description": "An API key: `fh_…`"}


def principal_of(request: Request) -> Principal:
    """The caller of an authenticated request."""
    return cast("Principal", request.user)
