"""A tenant with a model and a registered Kubernetes cluster, and passes over it: what tests against the emulator and
against real clusters have in common."""

from __future__ import annotations

from dataclasses import dataclass

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.fleet.models import Cluster
from freehold.serving.choices import ConditionType
from freehold.serving.events import event_list
from freehold.serving.models import Endpoint
from freehold.serving.services import endpoint_create, endpoint_delete, endpoint_scale
from freehold.tenancy.models import Tenant
from tests.factories.tenants import actor_in
from workers.manifests.kubernetes import names
from workers.reconcile.clusters import cluster_reconcile
from workers.reconcile.loop import Pass

_PASSES = 12


def due_now() -> None:
    """Every endpoint is to be looked at."""
    with system_scope("tests"):
        Endpoint.objects.update(next_reconcile_at=clock.now())


@dataclass
class Reconciled:
    """What a customer does, and what workers do then.

    Attributes:
        prefix: of the tenants' namespaces.
    """

    cluster: Cluster
    tenant: Tenant
    prefix: str

    @property
    def namespace(self) -> str:
        return names.namespace(self.prefix, self.tenant.public_id)

    def deploy(
        self,
        name: str = "chat",
        *,
        flavor: str | None = None,
        replicas: int = 1,
        region: str | None = None,
        tenant: Tenant | None = None,
    ) -> Endpoint:
        """A new endpoint of the tenant's (or another's) model `tiny`."""
        owner = tenant or self.tenant
        return endpoint_create(
            actor=actor_in(owner),
            tenant_id=owner.pk,
            name=name,
            model=f"{owner.slug}/tiny",
            flavor=flavor,
            replicas=replicas,
            region=region,
        )

    def scale(self, endpoint: Endpoint, replicas: int) -> None:
        """As its owner."""
        actor = actor_in(endpoint.tenant)
        endpoint_scale(actor=actor, tenant_id=endpoint.tenant_id, endpoint_id=endpoint.pk, replicas=replicas)

    def delete(self, endpoint: Endpoint) -> None:
        """As its owner."""
        endpoint_delete(actor=actor_in(endpoint.tenant), tenant_id=endpoint.tenant_id, endpoint_id=endpoint.pk)

    def reconcile(self) -> Pass:
        """A pass over everything, due or not."""
        due_now()
        done = cluster_reconcile(self.cluster.pk)
        assert not done.failed, "see the log: reconcile_failed"
        return done

    def elsewhere(self) -> None:
        """What others do between two passes; a real cluster does it by itself."""

    def settle(self) -> None:
        """Passes until nothing is written any more."""
        for _ in range(_PASSES):
            self.elsewhere()
            if not self.reconcile().steps:
                return
        raise AssertionError(f"still writing after {_PASSES} passes: what the server defaulted reads as drift")

    def again(self, endpoint: Endpoint) -> Endpoint:
        """As it is now."""
        with system_scope("tests"):
            return Endpoint.objects.select_related("tenant").get(pk=endpoint.pk)

    def condition(self, endpoint: Endpoint, kind: ConditionType) -> tuple[str, str, str]:
        """Status, reason and message of a condition that the endpoint has."""
        found = self.again(endpoint).condition(kind)
        assert found is not None, f"nothing is said of {kind}"
        return found["status"], found["reason"], found["message"]

    def messages(self, endpoint: Endpoint) -> list[str]:
        """Of its events, newest first."""
        with system_scope("tests"):
            return [event.message for event in event_list(endpoint_id=endpoint.pk)]
