"""What a tenant has in a cluster: a namespace of its own, restricted and closed but for what its engines need.

The standard's labels: https://kubernetes.io/docs/concepts/security/pod-security-admission/.
"""

from __future__ import annotations

from typing import Any

from freehold.fleet.cluster_settings import ClusterSettings
from workers.manifests.kubernetes import manifest, names, network
from workers.manifests.kubernetes.manifest import Manifest

_POD_SECURITY = {
    f"pod-security.kubernetes.io/{mode}{suffix}": value
    for mode in ("enforce", "audit", "warn")
    for suffix, value in (("", "restricted"), ("-version", "latest"))
}


def tenant_objects(*, tenant: str, slug: str, cluster: str, settings: ClusterSettings) -> tuple[Manifest, ...]:
    """Everything of a tenant that is not an endpoint's, in the order to apply.

    `tenant` and `cluster` are public ids; `slug` is the tenant's name, for people who look at the namespace. Raises
    InvalidInput that names the setting where the cluster's networks contradict each other.
    """
    labels = manifest.labels(cluster=cluster, tenant=tenant, component=names.TENANCY)
    namespace = names.namespace(settings.namespace_prefix, tenant)
    objects = [
        manifest.of("Namespace", "v1", namespace, labels={**labels, **_POD_SECURITY}, annotations={names.SLUG: slug}),
        *network.tenant_policies(labels=labels, namespace=namespace, settings=settings),
        manifest.of(
            "ResourceQuota", "v1", names.QUOTA,
            labels=labels, namespace=namespace, spec={"hard": settings.quota.hard},
        ),
        manifest.of(
            "LimitRange", "v1", names.LIMITS,
            labels=labels, namespace=namespace,
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default": settings.quota.default_limit,
                        "defaultRequest": settings.quota.default_request,
                    }
                ]
            },
        ),
        manifest.of(
            "ServiceAccount", "v1", names.SERVICE_ACCOUNT,
            labels=labels, namespace=namespace, automountServiceAccountToken=False,
        ),
    ]  # fmt: skip
    if settings.weights_cache.kind == "pvc":
        objects.append(_weights_claim(labels=labels, namespace=namespace, settings=settings))
    return tuple(objects)


def _weights_claim(*, labels: dict[str, str], namespace: str, settings: ClusterSettings) -> Manifest:
    cache = settings.weights_cache
    spec: dict[str, Any] = {
        "accessModes": [cache.access_mode],
        "resources": {"requests": {"storage": cache.size}},
        "volumeMode": "Filesystem",
    }
    if cache.storage_class:
        spec["storageClassName"] = cache.storage_class
    return manifest.of(
        "PersistentVolumeClaim", "v1", names.WEIGHTS_CLAIM, labels=labels, namespace=namespace, spec=spec
    )
