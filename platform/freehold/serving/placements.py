"""Where an endpoint would run: what a customer asks for, with what its model needs and its tenant may. Asked by
services before anything is written, and by the dry run, which writes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from freehold.common.errors import Conflict, InvalidInput
from freehold.db.rls import tenant_scope
from freehold.fleet.placement import Plan, Wish
from freehold.fleet.selectors import placement_plan
from freehold.registry import services as registry
from freehold.registry.choices import RevisionStatus
from freehold.registry.verification import undeployable
from freehold.serving import arguments as engine_arguments
from freehold.serving.fits import flavors_too_small
from freehold.tenancy.models import Tenant
from freehold.tenancy.permissions import Operation, require

if TYPE_CHECKING:
    from freehold.registry.models import Revision
    from freehold.tenancy.actors import Actor

MAX_REPLICAS: Final = 64


def endpoint_placement(
    *,
    actor: Actor,
    tenant_id: uuid.UUID,
    model: str,
    revision: str = "main",
    replicas: int = 1,
    flavor: str | None = None,
    region: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    prices: Mapping[str, int] | None = None,
) -> Plan:
    """What would become of `endpoint_create` with the same arguments; reserves and writes nothing.

    Raises what that does for arguments, model and revision; that there is no place is said in the plan.
    """
    require(actor, Operation.ENDPOINT_READ, tenant_id=tenant_id)
    check_replicas(replicas)
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
    return placement_plan(wish=wish)


def wish_of(
    *,
    tenant_id: uuid.UUID,
    revision: Revision,
    arguments: Mapping[str, Any],
    replicas: int,
    flavor: str | None = None,
    region: str | None = None,
    prices: Mapping[str, int] | None = None,
) -> Wish:
    """What fleet is asked for. Raises Refused for more tokens than the model reads."""
    return Wish(
        replicas=replicas,
        flavor=flavor,
        region=region,
        regions_allowed=regions_allowed(tenant_id=tenant_id),
        too_small=flavors_too_small(revision=revision, arguments=arguments),
        prices=prices or {},
    )


def regions_allowed(*, tenant_id: uuid.UUID) -> tuple[str, ...]:
    """The tenant's residency policy; empty for everywhere."""
    with tenant_scope(tenant_id):
        return tuple(Tenant.objects.values_list("regions_allowed", flat=True).get(pk=tenant_id))


def revision_to_serve(*, tenant_id: uuid.UUID, model: str, revision: str) -> Revision:
    """A verified revision of a model of the tenant. Raises NotFound, Conflict (not verified)."""
    pinned = registry.revision_resolve(tenant_id=tenant_id, repo=model, revision=revision)
    if pinned.status != RevisionStatus.VERIFIED:
        raise Conflict(undeployable(revision=pinned, model=model), field="revision")
    return pinned


def check_replicas(replicas: int) -> None:
    """Raises InvalidInput."""
    if not 0 <= replicas <= MAX_REPLICAS:
        raise InvalidInput(f"replicas must be a whole number from 0 to {MAX_REPLICAS}.", field="replicas")
