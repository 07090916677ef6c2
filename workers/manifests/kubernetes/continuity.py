"""What a new release of Freehold must not do: restart every engine because the image that fetched its weights is newer.

The fetcher's image is part of a pod's template, and a changed template replaces pods. As long as nothing else about the
pods changes, a workload keeps the fetcher it has; with the next real change it gets the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from workers.manifests.kubernetes import manifest, names
from workers.manifests.kubernetes.drift import differences
from workers.manifests.kubernetes.manifest import Manifest

_Paths: TypeAlias = tuple[tuple[str, ...], ...]

_TEMPLATES: Mapping[str, _Paths] = {
    "Deployment": (("spec", "template"),),
    "LeaderWorkerSet": (
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ),
}


def keeping_fetcher(wanted: Manifest, live: Mapping[str, Any]) -> Manifest:
    """`wanted`, or a copy with the fetcher's image of `live` where that is all that differs in the pods.

    Only another digest of the same repository counts: an image from elsewhere is drift.
    """
    paths = _TEMPLATES.get(wanted["kind"], ())
    image, running = _fetcher_of(wanted, paths), _fetcher_of(live, paths)
    if image == running or not image or image.partition("@")[0] != running.partition("@")[0]:
        return wanted
    kept = wanted
    for path in paths:
        kept = _with_image(kept, path, running)
        template = {"kind": "PodTemplate", "template": _at(kept, path)}
        if differences(template, {"template": _at(live, path)}):
            return wanted
    metadata = kept["metadata"]
    applied = {names.APPLIED: manifest.fingerprint(kept)}
    return {**kept, "metadata": {**metadata, "annotations": {**metadata["annotations"], **applied}}}


def _fetcher_of(workload: Mapping[str, Any], paths: _Paths) -> str:
    """The image in the first pod template; empty where there is none."""
    containers = _at(workload, paths[0]).get("spec", {}).get("initContainers") if paths else None
    for container in containers or ():
        if container.get("name") == names.FETCH_CONTAINER:
            return str(container.get("image", ""))
    return ""


def _at(value: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for step in path:
        value = value.get(step) or {}
    return value


def _with_image(workload: Manifest, path: tuple[str, ...], image: str) -> Manifest:
    """A copy that shares what it does not change."""
    if path:
        head, *rest = path
        return {**workload, head: _with_image(workload[head], tuple(rest), image)}
    pod = workload["spec"]
    containers = [
        {**container, "image": image} if container["name"] == names.FETCH_CONTAINER else container
        for container in pod["initContainers"]
    ]
    return {**workload, "spec": {**pod, "initContainers": containers}}
