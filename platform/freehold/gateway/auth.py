"""Key → tenant → route, from the snapshot in memory. Called by app.py for every request.

A model that the tenant may not see is answered exactly as one that does not exist.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

from freehold.gateway.errors import ApiError

if TYPE_CHECKING:
    from freehold.wire.follow import Snapshot
    from freehold.wire.records import KeyRecord, RouteRecord, TenantRecord

SCOPE: Final = "inference"
RETRY_AFTER: Final = 5


class Caller:
    """Who calls.

    Attributes:
        digest: of the secret, as the snapshot has it.
    """

    __slots__ = ("digest", "key", "tenant")

    def __init__(self, key: KeyRecord, tenant: TenantRecord, digest: str = "") -> None:
        self.key = key
        self.tenant = tenant
        self.digest = digest


def _secret(authorization: bytes, api_key: bytes) -> bytes:
    if authorization:
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise _unauthorized("The Authorization header must read `Bearer <API key>`.")
        return value.strip()
    return api_key.strip()


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key")


def authenticate(snapshot: Snapshot, authorization: bytes, api_key: bytes, now: float) -> Caller:
    """The caller behind a secret.

    Args:
        authorization, api_key: values of the headers `Authorization` and `x-api-key`, empty where absent.
        now: Unix seconds.

    Raises:
        ApiError: 401 for a secret that is missing, unknown, revoked or expired; 403 for a key without the scope or a
            suspended tenant; 503 before any snapshot was had.
    """
    if not snapshot.loaded:
        raise ApiError(503, "The gateway has just started and knows no keys yet. Try again.", retry_after=RETRY_AFTER)
    secret = _secret(authorization, api_key)
    if not secret:
        raise _unauthorized("No API key was given. Send it as `Authorization: Bearer <API key>`.")
    digest = hashlib.sha256(secret).hexdigest()
    key = snapshot.keys.get(digest)
    if key is None or (key.expires_at is not None and key.expires_at <= now):
        raise _unauthorized("Incorrect API key: it is unknown, revoked or expired. Make a new one in the console.")
    tenant = snapshot.tenants.get(key.tenant)
    if tenant is None:
        raise _unauthorized("Incorrect API key: it is unknown, revoked or expired. Make a new one in the console.")
    if tenant.suspended:
        raise ApiError(403, "This account is suspended. Ask the operator.", code="account_suspended")
    if SCOPE not in key.scopes:
        raise ApiError(403, f"This API key lacks the scope `{SCOPE}`.", code="insufficient_scope")
    return Caller(key, tenant, digest)


def sees(caller: Caller, model: str, route: RouteRecord) -> bool:
    """Whether the key may know of the model: it belongs to the tenant or is serverless, and the key's list has it."""
    if not route.serverless and route.tenant != caller.key.tenant:
        return False
    return caller.key.models is None or model in caller.key.models


def barred(snapshot: Snapshot, caller: Caller, model: str) -> ApiError | None:
    """Why a caller who was let in a while ago must not go on: its key or its tenant's standing may be gone since."""
    key, tenant = snapshot.keys.get(caller.digest), snapshot.tenants.get(caller.key.tenant)
    if key is None or tenant is None or (key.expires_at is not None and key.expires_at <= time.time()):
        return _unauthorized("Incorrect API key: it is unknown, revoked or expired. Make a new one in the console.")
    if tenant.suspended:
        return ApiError(403, "This account is suspended. Ask the operator.", code="account_suspended")
    route = snapshot.routes.get(model)
    if route is not None and not sees(caller, model, route):
        return not_found(model)
    return None


def not_found(model: str) -> ApiError:
    """What OpenAI says for a model that does not exist."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
        param="model",
    )


def resolve(snapshot: Snapshot, caller: Caller, model: str) -> RouteRecord:
    """The route of a public model name. Raises ApiError 404 for a model that this key cannot see."""
    route = snapshot.routes.get(model)
    if route is None or not sees(caller, model, route):
        raise not_found(model)
    return route
