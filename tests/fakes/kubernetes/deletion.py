"""DELETE: what goes at once, what lingers for a finalizer, a grace period or its dependents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.kubernetes import errors
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Stored

Json = dict[str, Any]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

# Kinds whose deletion answers with the object itself, not with a Status (ReturnDeletedObject in their registry).
_SHOWN_AT_THE_END = (kinds.PODS, kinds.SERVICES, kinds.SERVICEACCOUNTS, kinds.CLAIMS, kinds.QUOTAS)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What a client may say about a deletion."""

    propagation: str = "Background"
    grace_seconds: int | None = None
    uid: str = ""
    version: str = ""
    dry_run: bool = False

    @classmethod
    def read(cls, body: Json, query: dict[str, str]) -> DeleteOptions:
        """From a DeleteOptions object, or the query where there is none."""
        conditions = body.get("preconditions") or {}
        grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        return cls(
            propagation=body.get("propagationPolicy") or query.get("propagationPolicy") or "Background",
            grace_seconds=None if grace is None else int(grace),
            uid=conditions.get("uid", ""),
            version=conditions.get("resourceVersion", ""),
            dry_run="All" in (body.get("dryRun") or [query.get("dryRun", "")]),
        )


def delete(objects: Objects, resource: Resource, namespace: str, name: str, options: DeleteOptions) -> Stored | Json:
    """Gives the object where it lingers, a Status of success where it is gone."""
    live = objects.get(resource, namespace, name)
    meta = live.body["metadata"]
    if options.uid and options.uid != meta["uid"]:
        raise errors.wrong_uid(resource, name, options.uid, meta["uid"])
    if options.version and options.version != meta["resourceVersion"]:
        raise errors.modified(resource, name)
    body = _deleted(objects, live, options)
    if options.dry_run:
        return _gone(live) if body is None else Stored(resource, body)
    if body is None:
        last = objects.store.remove(resource, namespace, name)
        return last if last is not None and resource in _SHOWN_AT_THE_END else _gone(live)
    return live if body == live.body else objects.store.put(resource, body)


def _deleted(objects: Objects, live: Stored, options: DeleteOptions) -> Json | None:
    """The object as it lingers, None if nothing keeps it."""
    resource, body = live.resource, live.body
    meta = dict(body["metadata"])
    finalizers = list(meta.get("finalizers", ()))
    wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.propagation)
    if wanted and wanted not in finalizers:
        finalizers.append(wanted)
    if resource is kinds.NAMESPACES:
        if "deletionTimestamp" in meta:
            return body
        return {
            **body,
            "metadata": {**meta, "deletionTimestamp": objects.timestamp()},
            "status": {**body.get("status", {}), "phase": "Terminating"},
        }
    grace = _grace(live, options)
    if not finalizers and grace == 0:
        return None
    again = "deletionTimestamp" in meta
    if finalizers:
        meta["finalizers"] = finalizers
    if again and meta.get("deletionGracePeriodSeconds", 0) <= grace:
        return {**body, "metadata": meta}
    meta["deletionTimestamp"] = objects.timestamp(later=grace)
    meta["deletionGracePeriodSeconds"] = grace
    if "generation" in meta and not again:
        meta["generation"] += 1
    return {**body, "metadata": meta}


def _grace(live: Stored, options: DeleteOptions) -> int:
    """Seconds a pod gets to end; 0 for all else, and for pods that no kubelet has."""
    if live.resource is not kinds.PODS:
        return 0
    spec, phase = live.body["spec"], live.body["status"].get("phase")
    if not spec.get("nodeName") or phase in {"Succeeded", "Failed"}:
        return 0
    return int(spec["terminationGracePeriodSeconds"] if options.grace_seconds is None else options.grace_seconds)


def _gone(live: Stored) -> Json:
    meta = live.body["metadata"]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": errors.details(live.resource, meta["name"], uid=meta["uid"]),
    }
