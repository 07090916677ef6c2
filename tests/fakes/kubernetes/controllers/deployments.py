"""The Deployment controller: a ReplicaSet for each template, sizes between them, a status with conditions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers import rollout
from tests.fakes.kubernetes.controllers.base import (
    MANAGER,
    Controller,
    controller_of,
    key_of,
    owner_reference,
)
from tests.fakes.kubernetes.controllers.deployment_status import Judge
from tests.fakes.kubernetes.controllers.rollout import Size, Wanted
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MOST = "deployment.kubernetes.io/max-replicas"
_COMPONENT = "deployment-controller"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Json) -> str:
    """Looks like the real one: 32 bits of FNV-1a, spelt without vowels. Of what is hashed the real one differs."""
    value = 2166136261
    for byte in json.dumps(template, sort_keys=True, separators=(",", ":")).encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return "".join(_LETTERS[ord(digit) % len(_LETTERS)] for digit in str(value))


class Deployments(Controller):
    """Deployments → ReplicaSets."""

    watches = (kinds.DEPLOYMENTS, kinds.REPLICASETS)

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self._judge = Judge(objects.timestamp)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The Deployment itself, or the one a ReplicaSet belongs to."""
        if event.after.resource is kinds.DEPLOYMENTS:
            return [key_of(event.after)] if event.type != "DELETED" else []
        key = controller_of(event.after, "Deployment")
        return [key] if key else []

    def sync(self, key: Key) -> None:
        """One pass."""
        deployment = self.store.get(kinds.DEPLOYMENTS, *key)
        if deployment is None:
            return
        sets = self._sets(deployment)
        if "deletionTimestamp" in deployment.body["metadata"]:
            self._write_status(deployment, sets, self._newest(deployment, sets), rolling=False)
            return
        replicas = deployment.body["spec"]["replicas"]
        newest = self._newest(deployment, sets)
        resized = any(
            each.body["spec"]["replicas"] > 0 and _annotation(each, _DESIRED) not in ("", str(replicas))
            for each in sets
        )
        if resized or deployment.body["spec"].get("paused"):
            self._scale(deployment, newest, sets)
            sets = self._sets(deployment)
            self._write_status(deployment, sets, self._newest(deployment, sets), rolling=False)
            return
        if newest is None:
            deployment, newest = self._make_set(deployment, sets)
        self._roll(deployment, newest)
        sets = self._sets(deployment)
        self._write_status(deployment, sets, self._newest(deployment, sets), rolling=True)

    def _sets(self, deployment: Stored) -> list[Stored]:
        owned = self.store.owned_by(deployment.body["metadata"]["uid"])
        return [each for each in owned if each.resource is kinds.REPLICASETS]

    def _newest(self, deployment: Stored, sets: list[Stored]) -> Stored | None:
        wanted = deployment.body["spec"]["template"]
        for each in sorted(sets, key=lambda each: each.body["metadata"]["creationTimestamp"]):
            template = each.body["spec"]["template"]
            labels = {name: value for name, value in template["metadata"].get("labels", {}).items() if name != HASH}
            if {**template, "metadata": {**template["metadata"], "labels": labels}} == {
                **wanted,
                "metadata": {**wanted["metadata"], "labels": wanted["metadata"].get("labels", {})},
            }:
                return each
        return None

    def _make_set(self, deployment: Stored, sets: list[Stored]) -> tuple[Stored, Stored]:
        meta, spec = deployment.body["metadata"], deployment.body["spec"]
        digest = template_hash(spec["template"])
        labels = {**spec["template"]["metadata"].get("labels", {}), HASH: digest}
        wanted = Wanted.of(deployment.body)
        name = f"{meta['name']}-{digest}"
        revision = str(max((int(_annotation(each, _REVISION) or 0) for each in sets), default=0) + 1)
        size = rollout.new_size(wanted, _sizes(sets), Size(name, "", 0, 0, 0))
        if not wanted.rolling and any(each.body["status"]["replicas"] for each in sets):
            size = 0  # Recreate: first the old pods go
        body = {
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": {_REVISION: revision, **_limits(wanted)},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": size,
                "selector": _with_hash(spec["selector"], digest),
                "template": {**spec["template"], "metadata": {**spec["template"]["metadata"], "labels": labels}},
            },
        }
        made = self.objects.create(kinds.REPLICASETS, meta["namespace"], body, self.how).stored
        if size:
            self._tell_scaled(deployment, name, 0, size)
        status = self._judge.with_condition(
            deployment.body.get("status", {}),
            "Progressing",
            "True",
            "NewReplicaSetCreated",
            f'Created new replica set "{name}"',
        )
        return self.objects.set_status(deployment, status, MANAGER, {_REVISION: revision}), made

    def _scale(self, deployment: Stored, newest: Stored | None, sets: list[Stored]) -> None:
        wanted = Wanted.of(deployment.body)
        old = _sizes([each for each in sets if each is not newest])
        sizes = rollout.scaled_sizes(wanted, _size(newest) if newest else None, old)
        for each in sets:
            self._resize(
                deployment, each, sizes.get(each.body["metadata"]["name"], each.body["spec"]["replicas"]), wanted
            )

    def _roll(self, deployment: Stored, newest: Stored) -> None:
        wanted = Wanted.of(deployment.body)
        sets = self._sets(deployment)
        old = [each for each in sets if key_of(each) != key_of(newest)]
        if wanted.rolling:
            size = rollout.new_size(wanted, _sizes(sets), _size(newest))
            if size != newest.body["spec"]["replicas"]:
                self._resize(deployment, newest, size, wanted)
                return
            sizes = rollout.old_sizes(wanted, _size(newest), _sizes(old))
        else:
            sizes = {each.body["metadata"]["name"]: 0 for each in old if each.body["spec"]["replicas"]}
            if not sizes and not any(each.body["status"]["replicas"] for each in old):
                self._resize(deployment, newest, wanted.replicas, wanted)
                return
        for each in old:
            name = each.body["metadata"]["name"]
            if name in sizes:
                self._resize(deployment, each, sizes[name], wanted)

    def _resize(self, deployment: Stored, each: Stored, size: int, wanted: Wanted) -> None:
        meta, before = each.body["metadata"], each.body["spec"]["replicas"]
        if before == size and {**meta["annotations"], **_limits(wanted)} == meta["annotations"]:
            return
        patch = {"metadata": {"annotations": _limits(wanted)}, "spec": {"replicas": size}}
        self.objects.merge(kinds.REPLICASETS, meta["namespace"], meta["name"], patch, self.how)
        if before != size:
            self._tell_scaled(deployment, meta["name"], before, size)

    def _tell_scaled(self, deployment: Stored, name: str, before: int, size: int) -> None:
        way = "up" if size > before else "down"
        words = f"Scaled {way} replica set {name} from {before} to {size}"
        self.record(deployment, "ScalingReplicaSet", words, component=_COMPONENT)

    def _write_status(self, deployment: Stored, sets: list[Stored], newest: Stored | None, *, rolling: bool) -> None:
        fresh = self.store.get(kinds.DEPLOYMENTS, *key_of(deployment))
        if fresh is None:
            return
        before = fresh.body.get("status", {})
        status = self._judge.counted(fresh, sets, newest)
        if rolling and newest is not None:
            status = self._judge.progressed(fresh, before, status, newest)
            status = self._judge.failed(status, sets, newest)
        self.objects.set_status(fresh, status, MANAGER)


def _annotation(stored: Stored, name: str) -> str:
    return str(stored.body["metadata"].get("annotations", {}).get(name, ""))


def _limits(wanted: Wanted) -> dict[str, str]:
    return {_DESIRED: str(wanted.replicas), _MOST: str(wanted.replicas + wanted.surge)}


def _with_hash(selector: Json, digest: str) -> Json:
    return {**selector, "matchLabels": {**selector.get("matchLabels", {}), HASH: digest}}


def _size(each: Stored) -> Size:
    meta = each.body["metadata"]
    return Size(
        meta["name"],
        meta["creationTimestamp"],
        each.body["spec"]["replicas"],
        each.body["status"].get("availableReplicas", 0),
        int(_annotation(each, _MOST) or 0),
    )


def _sizes(sets: list[Stored]) -> list[Size]:
    return [_size(each) for each in sets]
