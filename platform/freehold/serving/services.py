"""Writes of serving: desired state, by people. What workers observed is written in claims.py.

Desired state is written here and nowhere else; a hint makes a worker look soon, the periodic resync makes it look
anyway.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, transaction

from freehold.common import clock, ids
from freehold.common.errors import Conflict, InvalidInput, NotFound
from freehold.db.rls import tenant_scope
from freehold.fleet.placement import Wish
from freehold.fleet.reservations import reservation_shrink, reservation_take
from freehold.fleet.selectors import Placement
from freehold.registry import services as registry
from freehold.registry.models import Revision
from freehold.serving import arguments as engine_arguments
from freehold.serving import publication
from freehold.serving.choices import BillingMode, Phase
from freehold.serving.models import ENDPOINT_NAME_MAX, Endpoint, EndpointSpec
from freehold.serving.placements import MAX_REPLICAS as MAX_REPLICAS
from freehold.serving.placements import check_replicas, revision_to_serve, wish_of
from freehold.tenancy.actors import Actor
from freehold.tenancy.limits import FIELDS, limits_apply, limits_check
from freehold.tenancy.models import Tenant
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import hints

LIMITS: Final = (*FIELDS, "default_max_tokens")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")


def endpoint_create(
    *,
    actor: Actor,
    tenant_id: uuid.UUID,
    name: str,
    model: str,
    revision: str = "main",
    billing_mode: BillingMode = BillingMode.TOKENS,
    replicas: int = 1,
    flavor: str | None = None,
    region: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    prices: Mapping[str, int] | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> Endpoint:
    """A new endpoint that serves `model` (`tenant/name`) at `revision` (a branch, tag or commit; pinned to the commit).

    Without a flavor it gets one that holds the model; `prices` (flavor → nanos of an accelerator-hour) says what each
    costs, where the tenant pays by it. The room is reserved with the endpoint. `limits`: LIMITS → number or None.

    Raises InvalidInput or Refused naming the field, also for a flavor that does not hold the model; PermissionDenied
    for a region that the residency policy forbids; NotFound for a model this tenant does not have; Conflict for a name
    in use or a revision that is not verified.
    """
    require(actor, Operation.ENDPOINT_WRITE, tenant_id=tenant_id)
    if not _NAME.fullmatch(name) or len(name) > ENDPOINT_NAME_MAX:
        raise InvalidInput(
            f"A name has 1 to {ENDPOINT_NAME_MAX} lower-case letters, digits, dots and hyphens, and begins and ends "
            "with a letter or digit.",
            field="name",
        )
    check_replicas(replicas)
    limits_check(limits or {}, LIMITS)
    checked = engine_arguments.validate(arguments or {})
    pinned = revision_to_serve(tenant_id=tenant_id, model=model, revision=revision)
    wish = wish_of(
        tenant_id=tenant_id,
        revision=pinned,
        arguments=checked,
        replicas=replicas,
        flavor=flavor,
        region=region,
        prices=prices,
    )
    endpoint_id = ids.uuid7()
    with tenant_scope(tenant_id):
        placement = reservation_take(holder=ids.encode(Endpoint.ID_PREFIX, endpoint_id), wish=wish)
        endpoint = _insert(tenant_id, endpoint_id, name, billing_mode, placement, limits or {})
        _spec_add(actor, endpoint, revision=pinned, placement=placement, replicas=replicas, arguments=checked)
        audit_record(
            actor=actor,
            tenant_id=tenant_id,
            action="endpoint.create",
            object_id=endpoint.public_id,
            detail={"name": name, "model": model, "revision": pinned.commit_id, "replicas": replicas},
        )
        _after_commit(endpoint)
    return endpoint


def endpoint_scale(*, actor: Actor, tenant_id: uuid.UUID, endpoint_id: uuid.UUID, replicas: int) -> Endpoint:
    """A new generation with another number of replicas and nothing else changed; 0 stops the endpoint.

    Fewer are never refused; for more there must be room in the endpoint's cluster. Raises NotFound, InvalidInput,
    PermissionDenied (the residency policy now forbids the region), Conflict (being deleted).
    """
    require(actor, Operation.ENDPOINT_WRITE, tenant_id=tenant_id)
    check_replicas(replicas)
    with tenant_scope(tenant_id):
        endpoint = _locked(endpoint_id)
        if endpoint.deletion_requested_at is not None:
            raise Conflict("The endpoint is being deleted.")
        spec = endpoint.spec
        if spec.replicas != replicas:
            _reserve(endpoint, spec, replicas)
            endpoint.generation += 1
            endpoint.next_reconcile_at = clock.now()
            endpoint.save(update_fields=["generation", "next_reconcile_at"])
            EndpointSpec.objects.create(
                tenant_id=tenant_id,
                endpoint=endpoint,
                generation=endpoint.generation,
                revision=spec.revision,
                flavor=spec.flavor,
                replicas=replicas,
                arguments=spec.arguments,
                engine_digest=spec.engine_digest,
                created_by=actor.id,
            )
            audit_record(
                actor=actor,
                tenant_id=tenant_id,
                action="endpoint.scale",
                object_id=endpoint.public_id,
                detail={"from": spec.replicas, "to": replicas},
            )
            _after_commit(endpoint)
        return endpoint


def endpoint_limits_set(
    *, actor: Actor, tenant_id: uuid.UUID, endpoint_id: uuid.UUID, limits: Mapping[str, int | None]
) -> Endpoint:
    """Sets limits of all callers together, and default_max_tokens (LIMITS → number, None for none); the others stay.

    No new generation: gateways keep to them, nothing that runs changes. Raises InvalidInput naming the field, NotFound,
    Conflict (being deleted).
    """
    require(actor, Operation.ENDPOINT_WRITE, tenant_id=tenant_id)
    limits_check(limits, LIMITS)
    with tenant_scope(tenant_id):
        endpoint = _locked(endpoint_id)
        if endpoint.deletion_requested_at is not None:
            raise Conflict("The endpoint is being deleted.")
        changed = limits_apply(endpoint, limits)
        if changed:
            audit_record(
                actor=actor,
                tenant_id=tenant_id,
                action="endpoint.limits_set",
                object_id=endpoint.public_id,
                detail=changed,
            )
            transaction.on_commit(partial(publication.endpoint_publish, tenant_id=tenant_id, endpoint_id=endpoint_id))
        return endpoint


def endpoint_delete(*, actor: Actor, tenant_id: uuid.UUID, endpoint_id: uuid.UUID) -> Endpoint:
    """Asks for deletion: routes go first, then replicas, then the row. A second time changes nothing. Raises
    NotFound."""
    require(actor, Operation.ENDPOINT_WRITE, tenant_id=tenant_id)
    with tenant_scope(tenant_id):
        endpoint = _locked(endpoint_id)
        if endpoint.deletion_requested_at is None:
            endpoint.deletion_requested_at = endpoint.next_reconcile_at = clock.now()
            endpoint.phase = Phase.DELETING.value
            endpoint.save(update_fields=["deletion_requested_at", "next_reconcile_at", "phase"])
            audit_record(actor=actor, tenant_id=tenant_id, action="endpoint.delete", object_id=endpoint.public_id)
            _after_commit(endpoint)
        return endpoint


def _reserve(endpoint: Endpoint, spec: EndpointSpec, replicas: int) -> None:
    """The room for another number of replicas where they are now."""
    if replicas <= spec.replicas:
        reservation_shrink(holder=endpoint.public_id, replicas=replicas)
        return
    wish = Wish(
        replicas=replicas,
        flavor=spec.flavor.name,
        cluster_id=endpoint.cluster_id,
        regions_allowed=endpoint.tenant.regions_allowed,
    )
    reservation_take(holder=endpoint.public_id, wish=wish)


def _locked(endpoint_id: uuid.UUID) -> Endpoint:
    endpoint = (
        Endpoint.objects.select_for_update(of=("self",))
        .select_related("tenant", "cluster__region")
        .filter(pk=endpoint_id, deleted_at=None)
        .first()
    )
    if endpoint is None:
        raise NotFound("There is no such endpoint.")
    return endpoint


def _insert(
    tenant_id: uuid.UUID,
    endpoint_id: uuid.UUID,
    name: str,
    billing_mode: BillingMode,
    placement: Placement,
    limits: Mapping[str, int | None],
) -> Endpoint:
    try:
        with transaction.atomic():
            endpoint = Endpoint(
                id=endpoint_id,
                tenant=Tenant.objects.get(pk=tenant_id),
                name=name,
                billing_mode=billing_mode.value,
                cluster=placement.cluster,
                next_reconcile_at=clock.now(),
                **limits,
            )
            endpoint.save(force_insert=True)
    except IntegrityError:
        raise Conflict(
            f"There is already an endpoint {name!r}. Choose another name or delete it first.", field="name"
        ) from None
    return endpoint


def _spec_add(
    actor: Actor,
    endpoint: Endpoint,
    *,
    revision: Revision,
    placement: Placement,
    replicas: int,
    arguments: engine_arguments.Arguments,
) -> EndpointSpec:
    registry.revision_hold(tenant_id=endpoint.tenant_id, revision_id=revision.pk, holder=endpoint.public_id)
    return EndpointSpec.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        generation=endpoint.generation,
        revision=revision,
        flavor=placement.flavor,
        replicas=replicas,
        arguments=arguments,
        engine_digest=placement.cluster.engine_digest,
        created_by=actor.id,
    )


def _after_commit(endpoint: Endpoint) -> None:
    cluster = str(endpoint.cluster_id)
    transaction.on_commit(partial(hints.send, hints.RECONCILE, cluster))
    transaction.on_commit(partial(publication.endpoint_publish, tenant_id=endpoint.tenant_id, endpoint_id=endpoint.pk))
