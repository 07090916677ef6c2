"""What Go writes for an object in which nothing is set.

A create is compared with that to see what its writer owns: structs without a pointer are always there, and so nobody's.
"""

from __future__ import annotations

from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.resources import Resource

Json = dict[str, Any]

NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip

_POD_TEMPLATE: Json = {"metadata": {}, "spec": {"containers": None}}
_EMPTY: dict[Resource, Json] = {
    kinds.NAMESPACES: {"spec": {}, "status": {}},
    kinds.NODES: {
        "spec": {},
        "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": dict.fromkeys(NODE_INFO, "")},
    },
    kinds.PODS: {"spec": {"containers": None}, "status": {}},
    kinds.SERVICES: {"spec": {}, "status": {"loadBalancer": {}}},
    kinds.CLAIMS: {"spec": {"resources": {}}, "status": {}},
    kinds.QUOTAS: {"spec": {}, "status": {}},
    kinds.LIMITRANGES: {"spec": {"limits": None}},
    kinds.EVENTS: {
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    },
    kinds.DEPLOYMENTS: {"spec": {"selector": None, "template": _POD_TEMPLATE, "strategy": {}}, "status": {}},
    kinds.REPLICASETS: {"spec": {"selector": None, "template": _POD_TEMPLATE}, "status": {"replicas": 0}},
    kinds.JOBS: {"spec": {"template": _POD_TEMPLATE}, "status": {}},
    kinds.NETWORKPOLICIES: {"spec": {"podSelector": {}}},
    kinds.BUDGETS: {
        "spec": {},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    },
    kinds.ENDPOINTSLICES: {"addressType": "", "endpoints": None, "ports": None},
    kinds.LEADERWORKERSETS: {},
}


def of(resource: Resource) -> Json:
    """Without kind and apiVersion."""
    return {"metadata": {}, **_EMPTY.get(resource, {})}
