"""The type of LeaderWorkerSets (leaderworkerset.x-k8s.io/v1), as far as their controller here goes by it.

Shape and names: the CRD of kubernetes-sigs/lws, v0.7. Pod templates inside are typed like everywhere else.
"""

from __future__ import annotations

from typing import Any

_TEMPLATE = {"$ref": "#/$defs/io.k8s.api.core.v1.PodTemplateSpec"}
_META = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_CONDITION = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.Condition"}
_INTEGER = {"type": "integer", "format": "int32"}
_STRING = {"type": "string"}
_INT_OR_STRING = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.util.intstr.IntOrString"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


LEADERWORKERSET: dict[str, Any] = _object(
    apiVersion=_STRING,
    kind=_STRING,
    metadata=_META,
    spec=_object(
        replicas=_INTEGER,
        startupPolicy=_STRING,
        leaderWorkerTemplate=_object(
            leaderTemplate=_TEMPLATE,
            workerTemplate=_TEMPLATE,
            size=_INTEGER,
            restartPolicy=_STRING,
            subGroupPolicy=_object(subGroupSize=_INTEGER, subGroupPolicyType=_STRING),
        ),
        rolloutStrategy=_object(
            type=_STRING,
            rollingUpdateConfiguration=_object(
                partition=_INTEGER, maxUnavailable=_INT_OR_STRING, maxSurge=_INT_OR_STRING
            ),
        ),
        networkConfig=_object(subdomainPolicy=_STRING),
    ),
    status=_object(
        conditions={
            "type": "array",
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        readyReplicas=_INTEGER,
        updatedReplicas=_INTEGER,
        replicas=_INTEGER,
        hpaPodSelector=_STRING,
        observedGeneration={"type": "integer", "format": "int64"},
    ),
)
