"""The status of quotas: what is allowed, what is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.fakes.kubernetes import admission, quantity
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller, key_of
from tests.fakes.kubernetes.objects import Writing
from tests.fakes.kubernetes.storage import Event, Key

_APISERVER = Writing("kube-apiserver")


class Quotas(Controller):
    """Quotas → their status. On a real cluster admission writes what a create uses, the controller the rest."""

    watches = (kinds.QUOTAS, kinds.PODS, kinds.SERVICES, kinds.SECRETS, kinds.CONFIGMAPS, kinds.CLAIMS)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The quota, or those of a namespace whose content changed."""
        if event.after.resource is kinds.QUOTAS:
            return [key_of(event.after)] if event.type != "DELETED" else []
        if event.type == "MODIFIED" and event.after.resource is not kinds.PODS:
            return []
        return [key_of(each) for each in self.store.all(kinds.QUOTAS, event.after.body["metadata"]["namespace"])]

    def sync(self, key: Key) -> None:
        """One quota."""
        found = self.store.get(kinds.QUOTAS, *key)
        if found is None:
            return
        hard = found.body["spec"].get("hard", {})
        used = {name: quantity.text(amount) for name, amount in admission.used_of(self.store, key[0], hard).items()}
        status: dict[str, Any] = {"hard": hard, "used": used}
        if found.body["status"] == status:
            return
        if found.body["status"].get("hard") != hard:
            first = {"hard": hard, "used": dict.fromkeys(hard, "0")}
            found = self.objects.set_status(found, first, self.how.manager)
        self.objects.set_status(found, status, _APISERVER.manager)
