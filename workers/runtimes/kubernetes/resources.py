"""The kinds that Freehold reads and writes, and where the API has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One kind.

    Attributes:
        api_version: `v1`, `apps/v1`, …
        plural: as in paths.
    """

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """Of the collection (everywhere without `namespace`), or of one object."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")


NAMESPACE = Resource("Namespace", "v1", "namespaces", namespaced=False)
NODE = Resource("Node", "v1", "nodes", namespaced=False)
POD = Resource("Pod", "v1", "pods")
POD_LOG = Resource("Pod", "v1", "pods/log")
SECRET = Resource("Secret", "v1", "secrets")
SERVICE = Resource("Service", "v1", "services")
SERVICE_ACCOUNT = Resource("ServiceAccount", "v1", "serviceaccounts")
CLAIM = Resource("PersistentVolumeClaim", "v1", "persistentvolumeclaims")
QUOTA = Resource("ResourceQuota", "v1", "resourcequotas")
LIMITS = Resource("LimitRange", "v1", "limitranges")
DEPLOYMENT = Resource("Deployment", "apps/v1", "deployments")
NETWORK_POLICY = Resource("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies")
DISRUPTION_BUDGET = Resource("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
LEADER_WORKER_SET = Resource("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1", "leaderworkersets")

OF_TENANTS = (NAMESPACE, NETWORK_POLICY, QUOTA, LIMITS, SERVICE_ACCOUNT, CLAIM)
OF_ENDPOINTS = (SECRET, SERVICE, DISRUPTION_BUDGET, DEPLOYMENT, LEADER_WORKER_SET)
BY_KIND = {resource.kind: resource for resource in (*OF_TENANTS, *OF_ENDPOINTS, POD, NODE)}
