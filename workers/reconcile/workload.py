"""A claimed endpoint as runtimes understand it."""

from __future__ import annotations

from collections.abc import Iterable

from freehold.serving.claims import Claim
from workers.manifests.spec import FlavorSpec, WeightsRef, WorkloadSpec
from workers.runtimes.base import Scope


def workload_of(claim: Claim) -> WorkloadSpec:
    """The spec of a claimed endpoint; one that is being deleted wants no replicas."""
    endpoint, spec = claim.endpoint, claim.spec
    revision, flavor = spec.revision, spec.flavor
    return WorkloadSpec(
        endpoint=endpoint.public_id,
        cluster=endpoint.cluster.public_id,
        generation=spec.generation,
        replicas=0 if endpoint.deletion_requested_at is not None else spec.replicas,
        served_model_name=endpoint.model_name,
        task=claim.task or "generate",
        weights=WeightsRef(
            tenant=endpoint.tenant.public_id,
            repo=f"{endpoint.tenant.slug}/{revision.repo.name}",
            commit_id=revision.commit_id,
            digest=revision.digest,
            bytes=claim.total_bytes,
        ),
        flavor=FlavorSpec(
            name=flavor.name,
            accelerator=flavor.accelerator,
            accelerators=flavor.accelerators,
            nodes=flavor.nodes,
            kv_cache_bytes=flavor.kv_cache_bytes,
            resource=flavor.resource,
            node_labels=flavor.node_labels,
        ),
        engine_digest=spec.engine_digest,
        arguments=spec.arguments,
    )


def scope_of(claims: Iterable[Claim]) -> Scope:
    """What must be observed for these claims."""
    return Scope(endpoints={claim.endpoint.public_id: claim.endpoint.tenant.public_id for claim in claims})
