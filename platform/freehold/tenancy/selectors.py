"""Reads of tenancy: who is this, what may they see."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta

from django.db.models import Q, QuerySet

from freehold.common import clock
from freehold.common.errors import NotAuthenticated, PermissionDenied
from freehold.db.rls import system_scope
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind, Role
from freehold.tenancy.models import ApiKey, Membership, Tenant, User
from freehold.tenancy.services import KEY_PREFIX

_USED_RESOLUTION = timedelta(minutes=5)


def api_key_authenticate(*, secret: str) -> tuple[Actor, Tenant]:
    """Who a secret is. Raises NotAuthenticated (wrong, revoked, expired), PermissionDenied (tenant suspended)."""
    if not secret.startswith(KEY_PREFIX):
        raise NotAuthenticated(f"That is not a Freehold API key: keys begin with {KEY_PREFIX!r}.")
    moment = clock.now()
    with system_scope("the tenant of a key is known only once the key is found"):
        key = (
            ApiKey.objects.select_related("tenant")
            .filter(secret_sha256=hashlib.sha256(secret.encode()).hexdigest(), revoked_at=None)
            .filter(Q(expires_at=None) | Q(expires_at__gt=moment))
            .first()
        )
        if key is None:
            raise NotAuthenticated("This API key is not valid. It may be mistyped, expired or revoked.")
        if key.last_used_at is None or moment - key.last_used_at > _USED_RESOLUTION:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=moment)
    if key.tenant.suspended_at is not None:
        raise PermissionDenied(f"The tenant {key.tenant.slug} is suspended. Write to your provider.")
    actor = Actor(
        kind=ActorKind.KEY,
        id=key.public_id,
        label=key.name,
        tenant_id=key.tenant_id,
        role=Role(key.role),
        models_allowed=None if key.models_allowed is None else frozenset(key.models_allowed),
        expires_at=key.expires_at,
    )
    return actor, key.tenant


def memberships_of(*, user: User) -> list[Membership]:
    """A user's memberships with their tenants, by slug."""
    with system_scope("session lookup: which tenants a user belongs to"):
        return list(Membership.objects.select_related("tenant").filter(user=user).order_by("tenant__slug"))


def actor_of_user(*, user: User, membership: Membership | None) -> Actor:
    """The actor a signed-in user is, in the tenant of `membership`."""
    return Actor(
        kind=ActorKind.USER,
        id=user.public_id,
        label=user.email,
        tenant_id=None if membership is None else membership.tenant_id,
        role=None if membership is None else Role(membership.role),
        operator=user.is_operator,
    )


def api_key_list(*, tenant_id: uuid.UUID) -> QuerySet[ApiKey]:
    """Keys of a tenant, newest first, revoked ones included. Read inside the tenant's scope."""
    return ApiKey.objects.filter(tenant_id=tenant_id).order_by("-id")


def tenant_by_slug(*, slug: str) -> Tenant | None:
    """For seeding and operator commands."""
    with system_scope("operator lookup of a tenant by its slug"):
        return Tenant.objects.filter(slug=slug).first()


def user_by_email(*, email: str) -> User | None:
    """For seeding and operator commands."""
    return User.objects.filter(email=email.lower()).first()
