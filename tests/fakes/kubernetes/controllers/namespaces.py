"""What a namespace is born with, and how it dies: its content first."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fakes.kubernetes import deletion
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller, key_of
from tests.fakes.kubernetes.deletion import DeleteOptions
from tests.fakes.kubernetes.storage import Event, Key

_CONTENT = tuple(each for each in (*kinds.BUILT_IN, kinds.LEADERWORKERSETS) if each.namespaced)
_ROOT_CA = "kube-root-ca.crt"
_DEFAULT_ACCOUNT = "default"


class Namespaces(Controller):
    """Keys are names: ("", namespace)."""

    watches = (kinds.NAMESPACES, *_CONTENT)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The namespace itself, or one that is going away when something in it has gone."""
        if event.after.resource is kinds.NAMESPACES:
            return [key_of(event.after)] if event.type != "DELETED" else []
        if event.type != "DELETED":
            return []
        return [("", event.after.body["metadata"]["namespace"])]

    def sync(self, key: Key) -> None:
        """One namespace."""
        name = key[1]
        found = self.store.get(kinds.NAMESPACES, "", name)
        if found is None:
            return
        if "deletionTimestamp" not in found.body["metadata"]:
            self._furnish(name)
            return
        for resource in _CONTENT:
            for each in self.store.all(resource, name):
                meta = each.body["metadata"]
                if "deletionTimestamp" not in meta:
                    deletion.delete(self.objects, resource, name, meta["name"], DeleteOptions())
                elif meta.get("finalizers") == ["kubernetes.io/pvc-protection"]:
                    self.store.remove(resource, name, meta["name"])
        if not any(self.store.all(resource, name) for resource in _CONTENT):
            self.store.remove(kinds.NAMESPACES, "", name)

    def _furnish(self, name: str) -> None:
        if self.store.get(kinds.CONFIGMAPS, name, _ROOT_CA) is None:
            note = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints"
            meta = {"name": _ROOT_CA, "annotations": {"kubernetes.io/description": note}}
            self.objects.create(kinds.CONFIGMAPS, name, {"metadata": meta, "data": {"ca.crt": "none"}}, self.how)
        if self.store.get(kinds.SERVICEACCOUNTS, name, _DEFAULT_ACCOUNT) is None:
            self.objects.create(kinds.SERVICEACCOUNTS, name, {"metadata": {"name": _DEFAULT_ACCOUNT}}, self.how)
