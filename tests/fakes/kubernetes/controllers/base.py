"""What a controller is: it names the objects a change concerns, and sets one of them right at a time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.objects import Objects, Writing
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

MANAGER = "kube-controller-manager"


class Controller:
    """One controller. `watches`: the kinds whose changes it wants to see."""

    watches: tuple[Resource, ...] = ()

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.store = objects.store
        self.how = Writing(MANAGER, trusted=True)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The keys to look at after a change."""
        raise NotImplementedError

    def sync(self, key: Key) -> None:
        """Sets one object right. Called again after every change that concerns it."""
        raise NotImplementedError

    def relist(self) -> Iterable[Key]:
        """Everything there is to look at, after a gap in the history."""
        for resource in self.watches:
            for stored in self.store.all(resource):
                yield from self.concerned(Event(stored.version, "ADDED", None, stored))

    def record(self, about: Stored, reason: str, message: str, *, component: str, warning: bool = False) -> None:
        """An Event about an object, in the form of the older controllers (core/v1)."""
        meta = about.body["metadata"]
        now = self.objects.timestamp()
        body = {
            "metadata": {"name": event_name(meta["name"])},
            "involvedObject": reference(about),
            "reason": reason,
            "message": message,
            "source": {"component": component},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": "Warning" if warning else "Normal",
            "reportingComponent": component,
        }
        self.objects.create(kinds.EVENTS, meta["namespace"], body, self.how)


def event_name(name: str) -> str:
    """Object, dot, a time in hex: as every recorder does."""
    return f"{name}.{time.time_ns() + secrets.randbelow(1_000_000):x}"


def reference(about: Stored) -> Json:
    """An ObjectReference."""
    meta = about.body["metadata"]
    return {
        "kind": about.resource.kind,
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "apiVersion": about.resource.api_version,
        "resourceVersion": meta["resourceVersion"],
    }


def owner_reference(owner: Stored) -> Json:
    """To be put into what a controller makes."""
    meta = owner.body["metadata"]
    return {
        "apiVersion": owner.resource.api_version,
        "kind": owner.resource.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(stored: Stored, kind: str) -> Key | None:
    """The object of that kind which made this one."""
    meta = stored.body["metadata"]
    for each in meta.get("ownerReferences", ()):
        if each.get("controller") and each["kind"] == kind:
            return (meta.get("namespace", ""), each["name"])
    return None


def key_of(stored: Stored) -> Key:
    """Namespace and name."""
    meta = stored.body["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def condition_of(status: Json, kind: str) -> Json | None:
    """A condition by its type."""
    return next((each for each in status.get("conditions", ()) if each["type"] == kind), None)


def is_ready(pod: Json) -> bool:
    """Whether a pod's Ready condition is True."""
    found = condition_of(pod.get("status", {}), "Ready")
    return found is not None and found["status"] == "True"


def is_active(pod: Json) -> bool:
    """Whether a pod counts for its owner: neither finished nor on its way out."""
    return "deletionTimestamp" not in pod["metadata"] and not is_finished(pod)


def is_finished(pod: Json) -> bool:
    """Whether a pod has ended for good."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
