"""Tenants, members, keys, a fleet and a verified revision, all made through the services a person would use."""

from __future__ import annotations

import uuid

from freehold.db.rls import tenant_scope
from freehold.fleet import services as fleet
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.models import Cluster, GpuFlavor
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.models import ModelRepo, Ref, Revision
from freehold.serving.models import Endpoint
from freehold.serving.services import endpoint_create
from freehold.tenancy import services as tenancy
from freehold.tenancy.actors import Actor, system
from freehold.tenancy.choices import ActorKind, Role
from freehold.tenancy.models import Tenant

SYSTEM = system("tests")


def make_tenant(slug: str = "acme") -> Tenant:
    """A tenant without members."""
    return tenancy.tenant_create(actor=SYSTEM, slug=slug, name=slug.title())


def actor_in(tenant: Tenant, role: Role = Role.ADMIN) -> Actor:
    """Somebody with a role in the tenant."""
    return Actor(kind=ActorKind.USER, id="usr_test", label="test@example.com", tenant_id=tenant.pk, role=role)


def make_fleet(*, capacity: int = 100) -> tuple[Cluster, GpuFlavor]:
    """A region, a cluster with the local runtime, and one CPU flavor."""
    region = fleet.region_create(actor=SYSTEM, name="local")
    cluster = fleet.cluster_register(
        actor=SYSTEM, region=region, name="this machine", runtime=RuntimeKind.LOCAL, engine_digest="sha256:engine"
    )
    flavor = fleet.flavor_create(actor=SYSTEM, name="cpu-local", accelerator="cpu")
    fleet.node_pool_set(actor=SYSTEM, cluster=cluster, flavor=flavor, capacity=capacity)
    return cluster, flavor


def make_revision(tenant: Tenant, name: str = "tiny", *, status: RevisionStatus = RevisionStatus.VERIFIED) -> Revision:
    """A model with one revision on `main`, without files: enough for everything that does not read weights."""
    with tenant_scope(tenant.pk):
        repo = ModelRepo.objects.create(tenant=tenant, name=name)
        revision = Revision.objects.create(
            tenant=tenant,
            repo=repo,
            commit_id=uuid.uuid4().hex + "0" * 8,
            message="first",
            author="tests",
            status=status.value,
            digest=uuid.uuid4().hex * 2,
            inspection={"task": "generate", "max_model_len": 2048},
        )
        Ref.objects.create(tenant=tenant, repo=repo, kind=RefKind.BRANCH.value, name="main", revision=revision)
    return revision


def make_endpoint(tenant: Tenant, name: str = "chat", *, model: str = "tiny", replicas: int = 1) -> Endpoint:
    """An endpoint as a customer creates it; needs make_fleet and make_revision first."""
    return endpoint_create(
        actor=actor_in(tenant), tenant_id=tenant.pk, name=name, model=f"{tenant.slug}/{model}", replicas=replicas
    )
