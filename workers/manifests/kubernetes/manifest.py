"""A manifest: one Kubernetes object as the plain data that is applied, and what all of ours carry.

Manifests share parts with the settings they are made from: they are read, copied and sent, never changed in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from workers.manifests.kubernetes import names

Manifest: TypeAlias = dict[str, Any]

_ENCODER = msgspec.json.Encoder(order="deterministic")


def labels(*, cluster: str, tenant: str, component: str, endpoint: str = "") -> dict[str, str]:
    """What every object of ours carries."""
    common = {
        names.MANAGED_BY: names.MANAGER,
        names.NAME: names.PRODUCT,
        names.COMPONENT: component,
        names.CLUSTER: cluster,
        names.TENANT: tenant,
    }
    return {**common, names.ENDPOINT: endpoint} if endpoint else common


def of(
    kind: str,
    api_version: str,
    name: str,
    *,
    labels: Mapping[str, str],
    namespace: str = "",
    annotations: Mapping[str, str] | None = None,
    **content: Any,
) -> Manifest:
    """An object with the hash of its content as an annotation. `content` are its top-level fields (spec, data, …)."""
    metadata: dict[str, Any] = {"name": name, "labels": labels, "annotations": dict(annotations or {})}
    if namespace:
        metadata["namespace"] = namespace
    manifest: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}
    metadata["annotations"][names.APPLIED] = fingerprint(manifest)
    return manifest


def fingerprint(manifest: Manifest) -> str:
    """16 hex digits that change exactly with the content; what `names.APPLIED` holds does not count."""
    metadata = manifest["metadata"]
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != names.APPLIED}
    content = {**manifest, "metadata": {**metadata, "annotations": annotations}}
    return hashlib.sha256(_ENCODER.encode(content)).hexdigest()[:16]
