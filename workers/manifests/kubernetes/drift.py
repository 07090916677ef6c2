"""Whether a live object still is what was applied. Runs for every object at every resync, so it is quick.

Only what we set is looked at: what the API server filled in, or another manager set beside it, is theirs. Lists and
maps are compared as server-side apply merges them, items of an associative list by their key and anything atomic as a
whole: https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from freehold.fleet import quantities
from workers.manifests.kubernetes.manifest import Manifest

_Compare: TypeAlias = Callable[[Any, Any, str, list[str]], None]

# Lists that have keys, as k8s.io/api declares them (listType=map). Absent: atomic.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
_ATOMIC_ITEMS: Final = frozenset({"imagePullSecrets"})
_PORT_KEYS: Final = (("containerPort", "protocol"), ("port", "protocol"))
_SETS: Final = frozenset({"finalizers"})
# Maps that are owned as a whole.
_ATOMIC_MAPS: Final = frozenset(
    {
        "selector", "labelSelector", "podSelector", "namespaceSelector", "matchLabels", "nodeSelector",
        "requiredDuringSchedulingIgnoredDuringExecution", "fieldRef", "secretKeyRef", "configMapKeyRef",
    }
)  # fmt: skip
_QUANTITIES: Final = frozenset({"limits", "requests", "hard", "default", "defaultRequest", "max", "min"})
_QUANTITY_FIELDS: Final = frozenset({"sizeLimit"})
_PROTOCOL: Final = "TCP"  # what an absent protocol means
# Fields whose zero the server leaves out; elsewhere `false` and an absent field are two things.
_ZERO_IS_ABSENT: Final = frozenset(
    {"publishNotReadyAddresses", "readOnly", "minReadySeconds", "initialDelaySeconds", "partition"}
)


def differences(wanted: Manifest, live: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of fields that we set and `live` has otherwise or not at all, such as
    `spec.template.spec.containers[engine].image`; empty where nothing drifted.

    Of a Secret only the metadata is looked at: what it holds is not listed.
    """
    found: list[str] = []
    for field, value in wanted.items():
        if field in {"kind", "apiVersion"} or (field != "metadata" and wanted["kind"] == "Secret"):
            continue  # lists leave the first two out
        _field(field, value, live.get(field), field, found)
    return tuple(found)


def _field(name: str, wanted: Any, live: Any, path: str, found: list[str]) -> None:
    if wanted == live:
        return
    if isinstance(wanted, dict) and isinstance(live, Mapping):
        if name in _QUANTITIES:
            _quantities(wanted, live, path, found)
        elif name in _ATOMIC_MAPS:
            if not _alike(name, wanted, live):
                found.append(path)
        else:
            for key, value in wanted.items():
                _field(key, value, live.get(key), f"{path}.{_step(key)}", found)
    elif isinstance(wanted, list) and isinstance(live, list):
        _list(name, wanted, live, path, found)
    elif not _same(name, wanted, live):
        found.append(path)


def _list(name: str, wanted: Sequence[Any], live: Sequence[Any], path: str, found: list[str]) -> None:
    keys = _KEYS.get(name) or _port_keys(name, wanted)
    if keys is not None:
        present = {_key(item, keys): item for item in live}
        for item in wanted:
            key = _key(item, keys)
            step = f"{path}[{'/'.join(map(str, key))}]"
            other = present.get(key)
            if other is None or (name in _ATOMIC_ITEMS and not _alike("", item, other)):
                found.append(step)
            else:
                for field, value in item.items():
                    if field != "protocol":  # part of the key
                        _field(field, value, other.get(field), f"{step}.{_step(field)}", found)
    elif name in _SETS:
        found.extend(f"{path}[{item}]" for item in wanted if item not in live)
    elif not _alike(name, wanted, live):
        found.append(path)


def _port_keys(name: str, wanted: Sequence[Any]) -> tuple[str, ...] | None:
    """`ports` is associative in a container and in a Service, atomic in a NetworkPolicy."""
    if name != "ports" or not wanted:
        return None
    first = wanted[0]
    if "containerPort" in first:
        return _PORT_KEYS[0]
    return _PORT_KEYS[1] if "targetPort" in first or "name" in first else None


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key, _PROTOCOL if key == "protocol" else None) for key in keys)


def _quantities(wanted: Mapping[str, Any], live: Mapping[str, Any], path: str, found: list[str]) -> None:
    for key, value in wanted.items():
        if not quantities.same(value, live.get(key)):
            found.append(f"{path}.{_step(key)}")


def _alike(name: str, wanted: Any, live: Any) -> bool:
    """Whether two values are the same as a whole, but for how a quantity or a port is written and what is empty."""
    if wanted == live:
        return True
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        if name in _QUANTITIES:
            return wanted.keys() == live.keys() and all(quantities.same(wanted[key], live[key]) for key in wanted)
        return all(_alike(field, wanted.get(field), live.get(field)) for field in {*wanted, *live})
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(_alike("", *pair) for pair in zip(wanted, live, strict=True))
    return _same(name, wanted, live)


def _same(name: str, wanted: Any, live: Any) -> bool:
    """Anything that is not two maps or two lists. A number and its text are one (int-or-string)."""
    if wanted is None or live is None:
        value = live if wanted is None else wanted
        if name == "protocol":
            return bool(value == _PROTOCOL)
        if name in _ZERO_IS_ABSENT:
            return not value
        # An empty selector selects everything, an absent one nothing in particular.
        return value is None or value in ("", []) or (value == {} and not name.endswith("Selector"))
    if isinstance(wanted, bool) or isinstance(live, bool):
        return False
    if name in _QUANTITY_FIELDS:
        return quantities.same(wanted, live)
    return isinstance(wanted, int | str) and isinstance(live, int | str) and str(wanted) == str(live)


def _step(key: str) -> str:
    """A key with dots is quoted, so that the path stays readable."""
    return f'"{key}"' if "." in key else key
