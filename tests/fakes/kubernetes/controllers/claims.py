"""Volume claims: bound as soon as they are made, as with a storage class that binds at once."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import MANAGER, Controller, key_of
from tests.fakes.kubernetes.storage import Event, Key


class Claims(Controller):
    """PersistentVolumeClaims → their status; and their end, once deleted and used by no pod."""

    watches = (kinds.CLAIMS, kinds.PODS)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The claim, or those of a pod that has gone."""
        if event.after.resource is kinds.CLAIMS:
            return [key_of(event.after)] if event.type != "DELETED" else []
        if event.type != "DELETED":
            return []
        namespace = event.after.body["metadata"]["namespace"]
        volumes = event.after.body["spec"].get("volumes", ())
        return [(namespace, v["persistentVolumeClaim"]["claimName"]) for v in volumes if "persistentVolumeClaim" in v]

    def sync(self, key: Key) -> None:
        """One claim."""
        found = self.store.get(kinds.CLAIMS, *key)
        if found is None:
            return
        spec, meta = found.body["spec"], found.body["metadata"]
        if "deletionTimestamp" in meta:
            users = (v for pod in self.store.all(kinds.PODS, key[0]) for v in pod.body["spec"].get("volumes", ()))
            if not any(v.get("persistentVolumeClaim", {}).get("claimName") == key[1] for v in users):
                self.objects.merge(kinds.CLAIMS, *key, {"metadata": {"finalizers": None}}, self.how)
        elif found.body["status"]["phase"] == "Pending":
            status = {
                "phase": "Bound",
                "accessModes": spec.get("accessModes", []),
                "capacity": spec["resources"].get("requests", {}),
            }
            self.objects.set_status(found, status, MANAGER)
