"""The arithmetic of a rolling update (k8s.io/kubernetes/pkg/controller/deployment: rolling.go, sync.go, util). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(slots=True)
class Size:
    """A ReplicaSet as the arithmetic sees it."""

    name: str
    created: str
    replicas: int  # wanted
    available: int
    most: int  # replicas plus surge when it was last sized; 0: unknown


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Deployment as the arithmetic sees it."""

    replicas: int
    surge: int
    unavailable: int
    rolling: bool
    before: int  # status.replicas

    @classmethod
    def of(cls, body: Json) -> Wanted:
        """From a Deployment."""
        spec = body["spec"]
        replicas = spec["replicas"]
        rolling = spec["strategy"]["type"] == "RollingUpdate"
        surge = unavailable = 0
        if rolling:
            limits = spec["strategy"]["rollingUpdate"]
            surge = _share(limits["maxSurge"], replicas, up=True)
            unavailable = min(_share(limits["maxUnavailable"], replicas, up=False), replicas)
            if surge == 0 and _share(limits["maxUnavailable"], replicas, up=False) == 0:
                unavailable = min(1, replicas)
        return cls(replicas, surge, unavailable, rolling, body.get("status", {}).get("replicas", 0))


def _share(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    part = int(value.rstrip("%")) * total / 100
    return math.ceil(part) if up else math.floor(part)


def new_size(wanted: Wanted, everything: list[Size], new: Size) -> int:
    """How many replicas the newest ReplicaSet gets."""
    if not wanted.rolling:
        return wanted.replicas
    if new.replicas > wanted.replicas:
        return wanted.replicas
    total, most = sum(each.replicas for each in everything), wanted.replicas + wanted.surge
    if total >= most:
        return new.replicas
    return new.replicas + min(most - total, wanted.replicas - new.replicas)


def old_sizes(wanted: Wanted, new: Size, old: list[Size]) -> dict[str, int]:
    """How many replicas older ReplicaSets keep: unhealthy ones go first, then as many as availability allows."""
    sizes = {each.name: each.replicas for each in old}
    total = sum(sizes.values())
    if total == 0:
        return {}
    floor = wanted.replicas - wanted.unavailable
    left = total + new.replicas - floor - (new.replicas - new.available)
    if left <= 0:
        return {}
    by_age = sorted(old, key=lambda each: (each.created, each.name))
    for each in by_age:
        unhealthy = min(left, max(0, sizes[each.name] - each.available))
        sizes[each.name] -= unhealthy
        left -= unhealthy
    spare = sum(each.available for each in old) + new.available - floor
    for each in by_age:
        if spare <= 0:
            break
        fewer = min(spare, sizes[each.name])
        sizes[each.name] -= fewer
        spare -= fewer
    return {each.name: sizes[each.name] for each in old if sizes[each.name] != each.replicas}


def scaled_sizes(wanted: Wanted, new: Size | None, old: list[Size]) -> dict[str, int]:
    """After the Deployment's replicas changed: everything in one ReplicaSet, or in proportion among several."""
    active = [each for each in old if each.replicas > 0] + ([new] if new and new.replicas > 0 else [])
    if len(active) <= 1:
        latest = active[0] if active else new or max(old, key=lambda each: (each.created, each.name), default=None)
        return {latest.name: wanted.replicas} if latest and latest.replicas != wanted.replicas else {}
    if new and new.replicas == wanted.replicas == new.available and new.most:
        return {each.name: 0 for each in old if each.replicas}
    if not wanted.rolling:
        return {}
    allowed = wanted.replicas + wanted.surge if wanted.replicas else 0
    missing = allowed - sum(each.replicas for each in active)
    if missing > 0:  # the biggest first, the newest among equals
        active.sort(key=lambda each: (each.replicas, each.created, each.name), reverse=True)
    else:  # the oldest among equals
        active.sort(key=lambda each: (-each.replicas, each.created, each.name))
    sizes, given = {}, 0
    for each in active:
        share = _proportion(each, wanted, missing, given)
        sizes[each.name] = each.replicas + share
        given += share
    if missing:
        first = active[0].name
        sizes[first] = max(0, sizes[first] + missing - given)
    return sizes


def _proportion(size: Size, wanted: Wanted, missing: int, given: int) -> int:
    if not size.replicas or not missing or missing == given:
        return 0
    if wanted.replicas == 0:
        fraction = -size.replicas
    else:
        before = size.most or wanted.before
        scaled = size.replicas * (wanted.replicas + wanted.surge) / before if before else size.replicas
        fraction = math.floor(scaled + 0.5) - size.replicas
    return min(fraction, missing - given) if missing > 0 else max(fraction, missing - given)
