"""Tenancy's part of the data plane's snapshot: keys and tenants.

Called after commit by services (one object) and by the periodic resync (everything). A failure is logged; the resync
repairs it.
"""

from __future__ import annotations

import uuid

import redis

from freehold.common import clock
from freehold.common.logging import get_logger
from freehold.db.rls import system_scope, tenant_scope
from freehold.db.versions import next_version, versions_advance
from freehold.tenancy.choices import Role
from freehold.tenancy.models import ApiKey, Tenant
from freehold.tenancy.permissions import ALLOWED, Operation
from freehold.wire import connection, names
from freehold.wire.publish import Publisher, VersionBehind
from freehold.wire.records import KeyRecord, TenantRecord

log = get_logger(__name__)


def key_publish(*, tenant_id: uuid.UUID, key_id: uuid.UUID) -> None:
    """Publishes one key as it stands now, or withdraws it."""
    try:
        version = next_version()
        with tenant_scope(tenant_id):
            key = ApiKey.objects.select_related("tenant").get(pk=key_id)
            record = _key_record(key)
        Publisher(connection.client()).put(names.Section.KEYS, key.secret_sha256, record, version=version)
    except redis.RedisError as error:
        log.warning("key_not_published", key=str(key_id), error=str(error))


def tenant_publish(*, tenant_id: uuid.UUID) -> None:
    """Publishes one tenant as it stands now."""
    try:
        version = next_version()
        with tenant_scope(tenant_id):
            tenant = Tenant.objects.get(pk=tenant_id)
        Publisher(connection.client()).put(
            names.Section.TENANTS, tenant.public_id, _tenant_record(tenant), version=version
        )
    except redis.RedisError as error:
        log.warning("tenant_not_published", tenant=str(tenant_id), error=str(error))


def publish_all() -> int:
    """Publishes every key and tenant. Returns how many fields changed in Redis. Raises redis.RedisError, and
    VersionBehind where others are faster twice in a row."""
    try:
        return _publish_all()
    except VersionBehind as behind:
        log.warning("versions_behind", seen=behind.seen)
        versions_advance(behind.seen)
        return _publish_all()


def _publish_all() -> int:
    publisher = Publisher(connection.client())
    version = next_version()
    with system_scope("resync of the data plane's keys and tenants"):
        tenants = {tenant.public_id: _tenant_record(tenant) for tenant in Tenant.objects.all()}
        keys = {
            key.secret_sha256: record
            for key in ApiKey.objects.select_related("tenant").filter(revoked_at=None)
            if (record := _key_record(key)) is not None
        }
    changed = publisher.replace(names.Section.TENANTS, tenants, version=version)
    return changed + publisher.replace(names.Section.KEYS, keys, version=version)


def _key_record(key: ApiKey) -> KeyRecord | None:
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= clock.now()):
        return None
    may_infer = Operation.INFER in ALLOWED[Role(key.role)]
    return KeyRecord(
        id=key.public_id,
        tenant=key.tenant.public_id,
        scopes=("inference",) if may_infer else (),
        models=None if key.models_allowed is None else tuple(key.models_allowed),
        expires_at=None if key.expires_at is None else int(key.expires_at.timestamp()),
        limits=key.limits,
    )


def _tenant_record(tenant: Tenant) -> TenantRecord:
    return TenantRecord(
        slug=tenant.slug,
        cache_salt=tenant.cache_salt,
        suspended=tenant.suspended_at is not None,
        limits=tenant.limits,
    )
