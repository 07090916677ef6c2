"""The official client against the emulator, and small things to put into it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import yaml
from kubernetes import client, config

from tests.fakes.kubernetes import Emulator

Json = dict[str, Any]

APPLY = "application/apply-patch+yaml"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


def official(api: Emulator, **how: Any) -> Any:
    """An ApiClient of the official client, configured by the emulator's kubeconfig."""
    make: Any = config.new_client_from_config_dict  # the client has no types of its own here
    return make(yaml.safe_load(api.kubeconfig(**how)))


def core_of(api: Emulator, **how: Any) -> Any:
    """A CoreV1Api that takes plain dictionaries: its own types want models."""
    return client.CoreV1Api(official(api, **how))


def told(refused: client.ApiException) -> Json:
    """The Status of a refusal."""
    status: Json = json.loads(refused.body or "{}")
    return status


def namespace(api: Emulator, name: str = "ten-a", **labels: str) -> str:
    """Makes a namespace. Gives its name."""
    meta = {"name": name, "labels": labels}
    core_of(api).create_namespace({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    return name


def config_map(name: str, value: str = "1", **labels: str) -> Json:
    """A ConfigMap."""
    meta: Json = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": value}}


def deployment(name: str, *, replicas: int = 1, gpus: int = 1, fetch: bool = False, **pod: Any) -> Json:
    """A Deployment of one container `engine`, with `fetch` after an init container `fetch-weights`."""
    container = {"name": "engine", "image": "engine:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec: Json = {"containers": [container], **pod}
    if fetch:
        spec["initContainers"] = [{"name": "fetch-weights", "image": "fetcher:1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def apply_deployment(api: Emulator, body: Json, space: str = "ten-a", manager: str = "freehold") -> Any:
    """Server-side apply."""
    apps = client.AppsV1Api(official(api))
    name = body["metadata"]["name"]
    return apps.patch_namespaced_deployment(name, space, body, field_manager=manager, force=True, _content_type=APPLY)


def eventually(check: Callable[[], Any], *, seconds: float = 10) -> Any:
    """Waits until something is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return found
