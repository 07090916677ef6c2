"""The emulator answers as a real Kubernetes 1.36 API server did, for every exchange that was recorded with one.

The recorded requests are sent in order, with what happened between them played where the recordings do not hold it: the
node, the second tenant's Deployment, the pods that became ready. Compared is everything but ids, times, versions and
random names; what cannot be the same stands in `_DIFFERS`, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.kubernetes import Emulator, Options
from tests.fakes.kubernetes.resources import PODS
from tests.integration.kubernetes import contract
from tests.integration.kubernetes.contract import TOKEN, Client, Exchange, differences, perform, perform_watch, plain

Json = dict[str, Any]

_EVERY = contract.exchanges()


def _only_served(recorded: Json, emulated: Json) -> None:
    for name in ("resources", "groups"):
        served = {each["name"] for each in emulated.get(name, ())}
        if name in recorded:
            recorded[name] = [each for each in recorded[name] if each["name"] in served]


def _no_ttl(recorded: Json, emulated: Json) -> None:
    meta = recorded["items"][0]["metadata"]
    assert list(meta.pop("annotations")) == ["node.alpha.kubernetes.io/ttl"]
    meta["managedFields"] = [each for each in meta["managedFields"] if each["manager"] != "kube-controller-manager"]


def _no_trigger_time(recorded: Json, emulated: Json) -> None:
    assert list(recorded["items"][0]["metadata"].pop("annotations")) == [
        "endpoints.kubernetes.io/last-change-trigger-time"
    ]
    del recorded["items"][0]["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:annotations"]
    for body in (recorded, emulated):
        del body["items"][0]["metadata"]["generation"]


def _before_the_pods_went(recorded: Json, emulated: Json) -> None:
    for body in (recorded, emulated):
        body["status"] = {"observedGeneration": body["status"]["observedGeneration"]}
        owners = body["metadata"]["managedFields"]
        body["metadata"]["managedFields"] = [each for each in owners if each["manager"] != "kube-controller-manager"]


# Name of a recording → (what takes away the parts that cannot be the same, why they cannot).
_DISCOVERY = (_only_served, "only the kinds that the emulator serves are listed")
_DIFFERS: dict[str, tuple[Callable[[Json, Json], None], str]] = {
    "02-core-resources": _DISCOVERY,
    "03-api-groups": _DISCOVERY,
    "04-apps-resources": _DISCOVERY,
    "05-networking-resources": _DISCOVERY,
    "07-node-list": (_no_ttl, "the TTL controller, which annotates nodes, is not emulated"),
    "50-endpointslices-ready": (
        _no_trigger_time,
        "the trigger time is not emulated; how often the controller wrote depends on the moment",
    ),
    "61-deployment-get-deleting": (
        _before_the_pods_went,
        "recorded before the garbage collector had come to the pods; in the emulator it has",
    ),
}


class Stage:
    """Plays the recordings and what lies between them."""

    def __init__(self, api: Emulator) -> None:
        self.api = api
        self.client = Client(api)
        self.done: dict[str, Exchange] = {}
        self.hashes: dict[str, dict[str, str]] = {}

    def play(self) -> None:
        """All of it."""
        self._set_up()
        special: dict[str, Callable[[Exchange], None]] = {
            "45-pods-unschedulable": self._another_tenant,
            "48-pod-status-ready": self._pods_get_ready,
            "51-list-limit-continue-page-1": self._config_maps,
            "52-list-limit-continue-page-2": self._second_page,
            "55-watch-added-modified-deleted": self._watch_changes,
            "56-watch-initial-events": self._watch,
            "57-watch-future-resource-version": self._watch_the_future,
        }
        for exchange in _EVERY:
            special.get(exchange.name, self._send)(exchange)
            self.done[exchange.name] = exchange
            self.api.cluster.settle()
            self.hashes[exchange.name] = contract.hashes_of(self.api)

    def _send(self, exchange: Exchange) -> None:
        perform(self.client, exchange)

    def _set_up(self) -> None:
        """The node, whose kubelet is nobody; the tenant whose namespace is not recorded."""
        self.api.cluster.kubelets.terminate = False
        item = next(each for each in _EVERY if each.name == "07-node-list").recorded["body"]["items"][0]
        meta = {"name": item["metadata"]["name"], "labels": item["metadata"]["labels"]}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": item["spec"]}
        self.client.send("POST", "/api/v1/nodes", None, node, "application/json")
        path = f"/api/v1/nodes/{meta['name']}/status"
        info = {name: value for name, value in item["status"]["nodeInfo"].items() if value}  # Go writes the empty ones
        status = {
            **{name: value for name, value in item["status"].items() if name != "daemonEndpoints"},
            "nodeInfo": info,
        }
        self.client.send("PATCH", path, None, {"status": status}, "application/merge-patch+json")

    def _another_tenant(self, exchange: Exchange) -> None:
        self.client.apply("/api/v1/namespaces/ten-beta", {"apiVersion": "v1", "kind": "Namespace"})
        body = next(each for each in _EVERY if each.name == "38-deployment-apply-over-quota").request["body"]
        text = json.dumps(body).replace("ep-big", "ep-16").replace('"nvidia.com/gpu": "8"', '"nvidia.com/gpu": "16"')
        self.client.apply("/apis/apps/v1/namespaces/ten-beta/deployments/ep-16", json.loads(text))
        self.api.cluster.settle()
        self._send(exchange)

    def _pods_get_ready(self, exchange: Exchange) -> None:
        """The recorded patch goes to the newest ReplicaSet's pod; the others get the addresses of recording 50."""
        newest = {role: digest for digest, role in contract.hashes_of(self.api).items()}["ep-1/2"]
        pods = [
            each for each in self.api.store.all(PODS, "ten-acme") if each.body["metadata"]["name"].startswith("ep-1-")
        ]
        pods.sort(
            key=lambda each: (newest not in each.body["metadata"]["name"], "deletionTimestamp" in each.body["metadata"])
        )
        for number, pod in enumerate(pods):
            path = f"/api/v1/namespaces/ten-acme/pods/{pod.body['metadata']['name']}/status"
            if number == 0:
                perform(self.client, exchange, path=path)
                continue
            address = f"10.0.0.{5 + number}"
            status = {**exchange.request["body"]["status"], "podIP": address, "podIPs": [{"ip": address}]}
            self.client.send("PATCH", path, None, {"status": status}, "application/merge-patch+json")

    def _config_maps(self, exchange: Exchange) -> None:
        """Four are recorded; of the other three the first page says only that they are there."""
        for number in range(6):
            meta = {"name": f"cm-{number}", "labels": {"l": str(number % 2)} if number < 4 else {"other": "x"}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}}
            self.client.apply(f"/api/v1/namespaces/ten-acme/configmaps/cm-{number}", body)
        self._send(exchange)

    def _second_page(self, exchange: Exchange) -> None:
        token = self.done["51-list-limit-continue-page-1"].body["metadata"]["continue"]
        perform(self.client, exchange, query={**exchange.request["query"], "continue": token})

    def _watch_changes(self, exchange: Exchange) -> None:
        path = f"{exchange.request['path']}/cm-9"

        def change() -> None:
            for value in ("1", "2"):
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm-9"}, "data": {"a": value}}
                Client(self.api).apply(path, body)
            Client(self.api).send("DELETE", path)

        version = str(self.api.store.version)
        query = {**exchange.request["query"], "resourceVersion": version, "timeoutSeconds": 1}
        perform_watch(self.client, exchange, query, change)

    def _watch(self, exchange: Exchange) -> None:
        perform_watch(self.client, exchange, exchange.request["query"])

    def _watch_the_future(self, exchange: Exchange) -> None:
        perform_watch(self.client, exchange, {**exchange.request["query"], "timeoutSeconds": 1})


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The whole play, done once."""
    with Emulator(options=Options(token=TOKEN)) as api:
        played = Stage(api)
        played.play()
        yield played


@pytest.mark.parametrize("name", [each.name for each in _EVERY])
def test_the_answer_is_as_recorded(stage: Stage, name: str) -> None:
    exchange = stage.done[name]
    recorded, theirs, ours = exchange.recorded, contract.recorded_hashes(), stage.hashes[name]
    assert exchange.status == recorded["status"], exchange.body
    for header in ("Content-Type", "Warning"):
        assert exchange.headers.get(header) == recorded["headers"].get(header)
    answer = exchange.events if "events" in recorded else exchange.body
    left, right = plain(recorded.get("events", recorded.get("body")), theirs), plain(answer, ours)
    if name in _DIFFERS:
        _DIFFERS[name][0](left, right)
    assert differences(left, right) == []


def test_a_version_stays_where_it_stayed(stage: Stage) -> None:
    """Applying twice, dry runs, refusals: wherever an object kept its resourceVersion, it keeps it here."""
    last: dict[str, Exchange] = {}
    kept = []
    for exchange in stage.done.values():
        path = exchange.request["path"].removesuffix("/scale")
        version = _version(exchange.recorded.get("body"))
        if version is None:
            continue
        before, last[path] = last.get(path), exchange
        if before and version == _version(before.recorded["body"]):
            kept.append(exchange.name)
            assert _version(exchange.body) == _version(before.body), exchange.name
    assert {"09-namespace-apply-unchanged", "31-deployment-strategic-merge"} <= set(kept)


def _version(body: Any) -> str | None:
    found = body.get("metadata", {}).get("resourceVersion") if isinstance(body, dict) else None
    return str(found) if found else None


def test_a_namespace_that_exists_is_not_written_again(stage: Stage) -> None:
    version = stage.api.store.version
    stage.client.apply("/api/v1/namespaces/ten-beta", {"apiVersion": "v1", "kind": "Namespace"})
    assert stage.api.store.version == version
