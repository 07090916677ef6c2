"""Serving's part of the data plane's snapshot: routes, by public model name.

Called after commit (one endpoint) and by the periodic resync (everything). A failure is logged; the resync repairs it.
"""

from __future__ import annotations

import uuid

import redis
from django.db.models import F

from freehold.common.logging import get_logger
from freehold.db.rls import system_scope, tenant_scope
from freehold.db.versions import next_version, versions_advance
from freehold.serving.choices import EndpointKind
from freehold.serving.models import Endpoint, EndpointSpec
from freehold.wire import connection, names
from freehold.wire.publish import Publisher, VersionBehind
from freehold.wire.records import ReplicaRecord, RouteRecord

log = get_logger(__name__)

_RELATED = ("endpoint__tenant", "endpoint__cluster__region", "revision")


def endpoint_publish(*, tenant_id: uuid.UUID, endpoint_id: uuid.UUID) -> None:
    """Publishes the route of one endpoint as it stands now; withdraws it when it is being deleted."""
    try:
        version = next_version()
        with tenant_scope(tenant_id):
            endpoint = Endpoint.objects.select_related("tenant").get(pk=endpoint_id)
            spec = EndpointSpec.objects.select_related(*_RELATED).filter(
                endpoint_id=endpoint_id, generation=F("endpoint__generation"), endpoint__deletion_requested_at=None
            )
            record = next((_route(found.endpoint, found) for found in spec), None)
        if record is None and _name_taken_over(endpoint):
            return
        Publisher(connection.client()).put(names.Section.ROUTES, endpoint.model_name, record, version=version)
    except redis.RedisError as error:
        log.warning("route_not_published", endpoint=str(endpoint_id), error=str(error))


def publish_all() -> int:
    """Publishes every route. Returns how many fields changed in Redis. Raises redis.RedisError, and VersionBehind where
    others are faster twice in a row."""
    try:
        return _publish_all()
    except VersionBehind as behind:
        log.warning("versions_behind", seen=behind.seen)
        versions_advance(behind.seen)
        return _publish_all()


def _publish_all() -> int:
    version = next_version()
    with system_scope("resync of the data plane's routes"):
        specs = EndpointSpec.objects.select_related(*_RELATED).filter(
            endpoint__deletion_requested_at=None, endpoint__deleted_at=None, generation=F("endpoint__generation")
        )
        routes = {spec.endpoint.model_name: _route(spec.endpoint, spec) for spec in specs}
    return Publisher(connection.client()).replace(names.Section.ROUTES, routes, version=version)


def _name_taken_over(endpoint: Endpoint) -> bool:
    """A deleted endpoint's name may already serve another; then its route is not ours to withdraw."""
    with tenant_scope(endpoint.tenant_id):
        return Endpoint.objects.filter(name=endpoint.name, deletion_requested_at=None).exists()


def _route(endpoint: Endpoint, spec: EndpointSpec) -> RouteRecord:
    return RouteRecord(
        endpoint=endpoint.public_id,
        tenant=endpoint.tenant.public_id,
        generation=spec.generation,
        task=str(spec.revision.inspection.get("task", "generate")),
        served_model_name=endpoint.model_name,
        billing_mode=endpoint.billing_mode,
        region=endpoint.cluster.region.name,
        phase=endpoint.phase,
        weight_digest=spec.revision.digest,
        engine_digest=spec.engine_digest,
        max_model_len=int(spec.arguments.get("max_model_len") or spec.revision.inspection.get("max_model_len") or 0),
        serverless=endpoint.kind == EndpointKind.SERVERLESS,
        created_at=int(endpoint.created_at.timestamp()),
        replicas=tuple(
            ReplicaRecord(id=replica["id"], host=replica["host"], port=replica["port"])
            for replica in endpoint.replicas_observed
            if replica["state"] == "ready"
        ),
        limits=endpoint.limits,
        default_max_tokens=endpoint.default_max_tokens or 0,
    )
