"""The garbage collector: what is owned goes with its owner, before it (foreground), after it, or stays (orphan)."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fakes.kubernetes import deletion
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller, key_of
from tests.fakes.kubernetes.deletion import FOREGROUND, ORPHAN, DeleteOptions
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Event, Key, Stored

_OWNING = (kinds.DEPLOYMENTS, kinds.REPLICASETS, kinds.JOBS, kinds.SERVICES, kinds.LEADERWORKERSETS, kinds.PODS)


class Garbage(Controller):
    """Keys are uids of owners: ("", uid)."""

    watches = (
        *_OWNING, kinds.SECRETS, kinds.CONFIGMAPS, kinds.ENDPOINTSLICES, kinds.BUDGETS, kinds.CLAIMS,
        kinds.NETWORKPOLICIES, kinds.SERVICEACCOUNTS, kinds.NAMESPACES,
    )  # fmt: skip

    def concerned(self, event: Event) -> Iterable[Key]:
        """An owner that goes, and the owners of what came or went."""
        meta = event.after.body["metadata"]
        found = [("", each["uid"]) for each in meta.get("ownerReferences", ())] if event.type != "MODIFIED" else []
        if event.type == "DELETED" or "deletionTimestamp" in meta:
            found.append(("", meta["uid"]))
        return found

    def sync(self, key: Key) -> None:
        """One owner."""
        uid = key[1]
        dependents = self.store.owned_by(uid)
        owner = self._owner(uid, dependents)
        if owner is None:
            for each in dependents:
                self._delete(each, DeleteOptions())
            return
        finalizers = owner.body["metadata"].get("finalizers", ())
        if "deletionTimestamp" not in owner.body["metadata"]:
            return
        if FOREGROUND in finalizers:
            for each in dependents:
                if "deletionTimestamp" not in each.body["metadata"]:
                    self._delete(each, DeleteOptions(propagation="Foreground"))
            if not self.store.owned_by(uid):
                self._release(owner, FOREGROUND)
        elif ORPHAN in finalizers:
            for each in dependents:
                kept = [ref for ref in each.body["metadata"]["ownerReferences"] if ref["uid"] != uid]
                patch = {"metadata": {"ownerReferences": kept or None}}
                namespace, name = key_of(each)
                self.objects.merge(each.resource, namespace, name, patch, self.how)
            self._release(owner, ORPHAN)

    def _owner(self, uid: str, dependents: list[Stored]) -> Stored | None:
        for each in dependents:
            meta = each.body["metadata"]
            for reference in meta["ownerReferences"]:
                if reference["uid"] != uid:
                    continue
                resource = _by_kind(reference["apiVersion"], reference["kind"])
                if resource is None:
                    return each  # of a kind that is not served: nothing is known about it
                namespace = meta.get("namespace", "") if resource.namespaced else ""
                found = self.store.get(resource, namespace, reference["name"])
                return found if found is not None and found.body["metadata"]["uid"] == uid else None
        for resource in _OWNING:
            for stored in self.store.all(resource):
                if stored.body["metadata"]["uid"] == uid:
                    return stored
        return None

    def _delete(self, each: Stored, options: DeleteOptions) -> None:
        namespace, name = key_of(each)
        deletion.delete(self.objects, each.resource, namespace, name, options)

    def _release(self, owner: Stored, finalizer: str) -> None:
        kept = [each for each in owner.body["metadata"]["finalizers"] if each != finalizer]
        namespace, name = key_of(owner)
        self.objects.merge(owner.resource, namespace, name, {"metadata": {"finalizers": kept or None}}, self.how)


def _by_kind(api_version: str, kind: str) -> Resource | None:
    served = (*kinds.BUILT_IN, kinds.LEADERWORKERSETS)
    return next((each for each in served if (each.api_version, each.kind) == (api_version, kind)), None)
