"""The one permission table: role × operation. Every write service asks here, and nothing else decides."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from freehold.common.errors import NotFound, PermissionDenied
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind, Role


class Operation(StrEnum):
    """What can be done. The word is `<object>.<verb>`, as in AuditEvent.action's first half."""

    TENANT_READ = "tenant.read"
    MEMBER_MANAGE = "member.manage"
    KEY_READ = "key.read"
    KEY_MANAGE = "key.manage"
    MODEL_READ = "model.read"
    MODEL_WRITE = "model.write"
    MODEL_DELETE = "model.delete"
    ENDPOINT_READ = "endpoint.read"
    ENDPOINT_WRITE = "endpoint.write"
    USAGE_READ = "usage.read"
    INFER = "inference.call"
    # the operator's own
    TENANT_CREATE = "tenant.create"
    TENANT_SUSPEND = "tenant.suspend"
    FLEET_MANAGE = "fleet.manage"
    PRICE_MANAGE = "price.manage"
    CATALOG_MANAGE = "catalog.manage"
    QUOTA_MANAGE = "quota.manage"
    RESIDENCY_MANAGE = "residency.manage"
    LIMITS_MANAGE = "limits.manage"  # of whole tenants
    ACCOUNT_MANAGE = "account.manage"


_READ: Final = frozenset(
    {
        Operation.TENANT_READ,
        Operation.KEY_READ,
        Operation.MODEL_READ,
        Operation.ENDPOINT_READ,
        Operation.USAGE_READ,
    }
)
_DEVELOP: Final = _READ | {Operation.MODEL_WRITE, Operation.ENDPOINT_WRITE, Operation.INFER}

ALLOWED: Final[Mapping[Role, frozenset[Operation]]] = {
    Role.VIEWER: _READ,
    Role.DEVELOPER: _DEVELOP,
    Role.ADMIN: _DEVELOP | {Operation.KEY_MANAGE, Operation.MEMBER_MANAGE, Operation.MODEL_DELETE},
    Role.INFERENCE: frozenset({Operation.INFER}),
}

OPERATOR: Final = frozenset(
    {
        Operation.TENANT_CREATE,
        Operation.TENANT_SUSPEND,
        Operation.FLEET_MANAGE,
        Operation.PRICE_MANAGE,
        Operation.CATALOG_MANAGE,
        Operation.QUOTA_MANAGE,
        Operation.RESIDENCY_MANAGE,
        Operation.LIMITS_MANAGE,
        Operation.ACCOUNT_MANAGE,
    }
)


def allows(actor: Actor, operation: Operation, *, tenant_id: uuid.UUID | None) -> bool:
    """Whether the table lets `actor` do this in that tenant (None: on the platform)."""
    if actor.kind is ActorKind.SYSTEM:
        return True
    if operation in OPERATOR:
        return actor.operator
    return actor.tenant_id == tenant_id and actor.role is not None and operation in ALLOWED[actor.role]


def require(actor: Actor, operation: Operation, *, tenant_id: uuid.UUID | None) -> None:
    """Raises PermissionDenied, or NotFound when the object is another tenant's: foreign and missing look the same."""
    if allows(actor, operation, tenant_id=tenant_id):
        return
    if operation not in OPERATOR and actor.tenant_id != tenant_id:
        raise NotFound("There is no such object.")
    holder = "This API key" if actor.kind is ActorKind.KEY else "You"
    needed = ", ".join(sorted(role.value for role, operations in ALLOWED.items() if operation in operations))
    remedy = f"Ask an admin of the tenant for one of these roles: {needed}." if needed else "Only the operator may."
    raise PermissionDenied(f"{holder} may not do {operation.value} (role: {actor.role or 'none'}). {remedy}")
