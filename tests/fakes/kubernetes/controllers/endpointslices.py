"""EndpointSlices: the addresses behind a Service, one slice each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller, is_finished, is_ready, key_of, owner_reference
from tests.fakes.kubernetes.nodes import ZONE
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

_SERVICE_NAME = "kubernetes.io/service-name"


class EndpointSlices(Controller):
    """Services and Pods → EndpointSlices."""

    watches = (kinds.SERVICES, kinds.PODS)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The Service, or those that select a pod."""
        if event.after.resource is kinds.SERVICES:
            return [key_of(event.after)] if event.type != "DELETED" else []
        meta = event.after.body["metadata"]
        services = self.store.all(kinds.SERVICES, meta["namespace"])
        return [key_of(each) for each in services if _selects(each.body, meta.get("labels", {}))]

    def sync(self, key: Key) -> None:
        """One Service."""
        service = self.store.get(kinds.SERVICES, *key)
        if (
            service is None
            or not service.body["spec"].get("selector")
            or "deletionTimestamp" in service.body["metadata"]
        ):
            return
        namespace, name = key
        pods = [each for each in self.store.all(kinds.PODS, namespace) if self._behind(service.body, each.body)]
        content: Json = {"endpoints": [self._endpoint(each) for each in pods], "ports": _ports(service.body, pods)}
        held = [e for e in self.store.owned_by(service.body["metadata"]["uid"]) if e.resource is kinds.ENDPOINTSLICES]
        if held:
            self.objects.merge(kinds.ENDPOINTSLICES, namespace, held[0].body["metadata"]["name"], content, self.how)
            return
        labels = {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            _SERVICE_NAME: name,
        }
        if service.body["spec"].get("clusterIP") == "None":
            labels["service.kubernetes.io/headless"] = ""
        meta = {"generateName": f"{name}-", "labels": labels, "ownerReferences": [owner_reference(service)]}
        body = {"metadata": meta, "addressType": "IPv4", **content}
        self.objects.create(kinds.ENDPOINTSLICES, namespace, body, self.how)

    @staticmethod
    def _behind(service: Json, pod: Json) -> bool:
        return (
            _selects(service, pod["metadata"].get("labels", {}))
            and bool(pod["status"].get("podIP"))
            and not is_finished(pod)
        )

    def _endpoint(self, pod: Stored) -> Json:
        meta, body = pod.body["metadata"], pod.body
        terminating, ready = "deletionTimestamp" in meta, is_ready(body)
        reference = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
        endpoint: Json = {
            "addresses": [body["status"]["podIP"]],
            "conditions": {"ready": ready and not terminating, "serving": ready, "terminating": terminating},
            "targetRef": reference,
            "nodeName": body["spec"]["nodeName"],
        }
        node = self.store.get(kinds.NODES, "", body["spec"]["nodeName"])
        zone = node.body["metadata"].get("labels", {}).get(ZONE) if node else None
        return {**endpoint, "zone": zone} if zone else endpoint


def _selects(service: Json, labels: Json) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _ports(service: Json, pods: list[Stored]) -> list[Json]:
    found = []
    for port in service["spec"].get("ports", ()):
        number = port["targetPort"]
        if isinstance(number, str):
            if not pods:
                continue
            named = (p for each in pods[0].body["spec"]["containers"] for p in each.get("ports", ()))
            number = next((each["containerPort"] for each in named if each.get("name") == number), None)
            if number is None:
                continue
        found.append({"name": port.get("name", ""), "protocol": port["protocol"], "port": number})
    return found
