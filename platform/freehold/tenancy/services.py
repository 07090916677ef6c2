"""Writes of tenancy: operators, tenants, members, API keys."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import IntegrityError, transaction

from freehold.audit import services as audit
from freehold.common import clock
from freehold.common.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from freehold.db.rls import system_scope, tenant_scope
from freehold.tenancy import publication
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind, Role
from freehold.tenancy.limits import limits_apply, limits_check
from freehold.tenancy.models import ApiKey, Membership, Tenant, User
from freehold.tenancy.permissions import ALLOWED, Operation, require

KEY_PREFIX = "fh_"

# First path segments of the web origin, which hub addresses (`/<tenant>/<model>/…`) share, and names that would
# mislead.
RESERVED_SLUGS = frozenset(
    {
        "accounts",
        "admin",
        "api",
        "assets",
        "blobs",
        "catalog",
        "console",
        "datasets",
        "docs",
        "exports",
        "favicon.ico",
        "freehold",
        "health",
        "healthz",
        "hub",
        "login",
        "logout",
        "models",
        "operator",
        "readyz",
        "resolve",
        "settings",
        "spaces",
        "static",
        "system",
    }
)
_REGION = re.compile(r"[A-Za-z0-9_-]{1,40}")  # Region.name is a slug
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class NewApiKey:
    """A key just made. `secret` is shown once and kept nowhere."""

    key: ApiKey
    secret: str


def audit_record(
    *, actor: Actor, tenant_id: uuid.UUID | None, action: str, object_id: str, detail: dict[str, object] | None = None
) -> None:
    """Writes the AuditEvent of a write service: call it last, in the same transaction."""
    audit.record(
        tenant_id=tenant_id,
        actor_kind=actor.kind.value,
        actor_id=actor.id,
        actor_label=actor.label,
        action=action,
        object_id=object_id,
        detail=detail,
    )


def operator_create(*, actor: Actor, email: str, password: str, name: str = "") -> User:
    """A user who runs the installation. Raises Conflict where the address is taken."""
    require(actor, Operation.TENANT_CREATE, tenant_id=None)
    return _user_create(actor=actor, email=email, password=password, name=name, is_operator=True)


def user_create(*, actor: Actor, email: str, password: str, name: str = "") -> User:
    """A person who is not yet a member of anything. Raises Conflict where the address is taken."""
    require(actor, Operation.TENANT_CREATE, tenant_id=None)
    return _user_create(actor=actor, email=email, password=password, name=name, is_operator=False)


def _user_create(*, actor: Actor, email: str, password: str, name: str, is_operator: bool) -> User:
    with system_scope("users belong to no tenant; their audit trail is the platform's"):
        if User.objects.filter(email=email.lower()).exists():
            raise Conflict(f"There is already a user with the address {email}.", field="email")
        user = User.objects.create_user(email, password, name=name, is_operator=is_operator)
        audit_record(actor=actor, tenant_id=None, action="user.create", object_id=user.public_id)
    return user


def tenant_create(*, actor: Actor, slug: str, name: str) -> Tenant:
    """A new tenant. Raises InvalidInput for a slug that cannot be one, Conflict where it is taken."""
    require(actor, Operation.TENANT_CREATE, tenant_id=None)
    if not _SLUG.fullmatch(slug):
        raise InvalidInput(
            "A slug has 1 to 40 lower-case letters, digits and hyphens, and begins and ends with no hyphen.",
            field="slug",
        )
    if slug in RESERVED_SLUGS:
        raise InvalidInput(f"The slug {slug!r} is reserved. Choose another.", field="slug")
    with system_scope("a tenant is created from outside of any tenant"):
        try:
            with transaction.atomic():
                tenant = Tenant.objects.create(slug=slug, name=name)
        except IntegrityError:
            raise Conflict(f"The slug {slug!r} is taken. Choose another.", field="slug") from None
        audit_record(actor=actor, tenant_id=tenant.pk, action="tenant.create", object_id=tenant.public_id)
        transaction.on_commit(partial(publication.tenant_publish, tenant_id=tenant.pk))
    return tenant


def tenant_residency_set(*, actor: Actor, tenant_id: uuid.UUID, regions: Sequence[str]) -> Tenant:
    """The only regions in which the tenant's models may run from now on, by name; none for everywhere.

    What runs elsewhere already stays, and gets no more replicas. Raises InvalidInput for what no region is called,
    NotFound.
    """
    require(actor, Operation.RESIDENCY_MANAGE, tenant_id=None)
    wrong = sorted(name for name in regions if not _REGION.fullmatch(name))
    if wrong:
        raise InvalidInput(
            f"No region can be called {', '.join(repr(name) for name in wrong)}.", field="regions_allowed"
        )
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.select_for_update(no_key=True).filter(pk=tenant_id).first()
        if tenant is None:
            raise NotFound("There is no such tenant.")
        before, tenant.regions_allowed = tenant.regions_allowed, sorted(set(regions))
        if tenant.regions_allowed != before:
            tenant.save(update_fields=["regions_allowed"])
            audit_record(
                actor=actor,
                tenant_id=tenant_id,
                action="tenant.residency_set",
                object_id=tenant.public_id,
                detail={"from": before, "to": tenant.regions_allowed},
            )
    return tenant


def tenant_limits_set(*, actor: Actor, tenant_id: uuid.UUID, limits: Mapping[str, int | None]) -> Tenant:
    """Sets limits of all the tenant's keys together (limits.FIELDS → number, None for none); the others stay.

    Raises InvalidInput naming the field, NotFound.
    """
    require(actor, Operation.LIMITS_MANAGE, tenant_id=None)
    limits_check(limits)
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.select_for_update(no_key=True).filter(pk=tenant_id).first()
        if tenant is None:
            raise NotFound("There is no such tenant.")
        changed = limits_apply(tenant, limits)
        if changed:
            audit_record(
                actor=actor,
                tenant_id=tenant_id,
                action="tenant.limits_set",
                object_id=tenant.public_id,
                detail=changed,
            )
            transaction.on_commit(partial(publication.tenant_publish, tenant_id=tenant_id))
    return tenant


def member_add(*, actor: Actor, tenant: Tenant, user: User, role: Role) -> Membership:
    """Makes a user a member. Raises Conflict where they are one already."""
    require(actor, Operation.MEMBER_MANAGE, tenant_id=tenant.pk)
    with tenant_scope(tenant.pk):
        try:
            with transaction.atomic():
                membership = Membership.objects.create(tenant=tenant, user=user, role=role.value)
        except IntegrityError:
            raise Conflict(f"{user.email} is already a member.", field="user") from None
        audit_record(
            actor=actor,
            tenant_id=tenant.pk,
            action="member.add",
            object_id=user.public_id,
            detail={"role": role.value},
        )
    return membership


def api_key_create(
    *,
    actor: Actor,
    tenant_id: uuid.UUID,
    name: str,
    role: Role,
    models_allowed: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> NewApiKey:
    """A new API key; its secret is in the answer and never again. `limits`: limits.FIELDS → number, None for none.

    Raises PermissionDenied where the key could do more than its maker, InvalidInput for an empty name, a past expiry or
    what is no limit.
    """
    require(actor, Operation.KEY_MANAGE, tenant_id=tenant_id)
    if not name.strip():
        raise InvalidInput("Give the key a name that says where it is used.", field="name")
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidInput("The expiry lies in the past.", field="expires_at")
    limits_check(limits or {})
    _check_key_within(actor, role, models_allowed, expires_at)
    secret = KEY_PREFIX + secrets.token_urlsafe(30)
    with tenant_scope(tenant_id):
        key = ApiKey.objects.create(
            tenant_id=tenant_id,
            name=name.strip(),
            role=role.value,
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            hint=secret[: len(KEY_PREFIX) + 6],
            models_allowed=None if models_allowed is None else list(models_allowed),
            created_by=actor.id,
            expires_at=expires_at,
            **(limits or {}),
        )
        audit_record(
            actor=actor,
            tenant_id=tenant_id,
            action="key.create",
            object_id=key.public_id,
            detail={"name": key.name, "role": role.value},
        )
        transaction.on_commit(partial(publication.key_publish, tenant_id=tenant_id, key_id=key.pk))
    return NewApiKey(key=key, secret=secret)


def _check_key_within(
    actor: Actor, role: Role, models_allowed: Sequence[str] | None, expires_at: datetime | None
) -> None:
    """Raises PermissionDenied where a key could do more, call more or live longer than its maker."""
    if actor.kind is ActorKind.SYSTEM:
        return
    if actor.role is None or not ALLOWED[role] <= ALLOWED[actor.role]:
        raise PermissionDenied(f"A key with the role {role.value} could do more than you can.", field="role")
    mine = actor.models_allowed
    if mine is not None and (models_allowed is None or not mine.issuperset(models_allowed)):
        raise PermissionDenied(
            f"The key could call more models than yours. Name some of these: {', '.join(sorted(mine)) or 'none'}.",
            field="models_allowed",
        )
    if actor.expires_at is not None and (expires_at is None or expires_at > actor.expires_at):
        raise PermissionDenied(
            f"The key could outlive yours. Let it expire by {actor.expires_at.isoformat(timespec='seconds')}.",
            field="expires_at",
        )


def api_key_revoke(*, actor: Actor, tenant_id: uuid.UUID, key_id: uuid.UUID) -> ApiKey:
    """Revokes a key for good; a second time changes nothing. Raises NotFound."""
    require(actor, Operation.KEY_MANAGE, tenant_id=tenant_id)
    with tenant_scope(tenant_id):
        key = ApiKey.objects.select_for_update().filter(pk=key_id).first()
        if key is None:
            raise NotFound("There is no such API key.")
        if key.revoked_at is None:
            key.revoked_at = clock.now()
            key.save(update_fields=["revoked_at"])
            audit_record(actor=actor, tenant_id=tenant_id, action="key.revoke", object_id=key.public_id)
        transaction.on_commit(partial(publication.key_publish, tenant_id=tenant_id, key_id=key.pk))
    return key


def api_key_limits_set(
    *, actor: Actor, tenant_id: uuid.UUID, key_id: uuid.UUID, limits: Mapping[str, int | None]
) -> ApiKey:
    """Sets limits of one key (limits.FIELDS → number, None for none); the others stay.

    Raises InvalidInput naming the field, NotFound, Conflict for a key that is revoked.
    """
    require(actor, Operation.KEY_MANAGE, tenant_id=tenant_id)
    limits_check(limits)
    with tenant_scope(tenant_id):
        key = ApiKey.objects.select_for_update().filter(pk=key_id).first()
        if key is None:
            raise NotFound("There is no such API key.")
        if key.revoked_at is not None:
            raise Conflict("The API key is revoked. Make another.")
        changed = limits_apply(key, limits)
        if changed:
            audit_record(
                actor=actor, tenant_id=tenant_id, action="key.limits_set", object_id=key.public_id, detail=changed
            )
            transaction.on_commit(partial(publication.key_publish, tenant_id=tenant_id, key_id=key_id))
    return key
