"""What containers printed, and the `log` subresource that reads it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.errors import bad_request
from tests.fakes.kubernetes.objects import Objects

_Key = tuple[str, str, str, bool]  # namespace, pod, container, previous
_Line = tuple[datetime, str]


class Logs:
    """Lines by container. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[_Key, list[_Line]] = {}

    def put(self, namespace: str, pod: str, container: str, lines: Iterable[str | _Line], *, previous: bool) -> None:
        """Replaces a container's log. Lines without a time were printed now."""
        now = datetime.now(UTC)
        stamped = [(now, line) if isinstance(line, str) else line for line in lines]
        with self._lock:
            self._lines[(namespace, pod, container, previous)] = stamped

    def read(self, objects: Objects, namespace: str, name: str, query: dict[str, str]) -> bytes:
        """GET pods/<name>/log. Raises what the server says of a container that is not there or has no log yet."""
        pod = objects.get(kinds.PODS, namespace, name).body
        spec, status = pod["spec"], pod["status"]
        names = [each["name"] for field in ("initContainers", "containers") for each in spec.get(field, ())]
        container = query.get("container") or ""
        if not container:
            if len(spec["containers"]) > 1:
                choice = " ".join(each["name"] for each in spec["containers"])
                raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{choice}]")
            container = spec["containers"][0]["name"]
        if container not in names:
            raise bad_request(f"container {container} is not valid for pod {name}")
        previous = query.get("previous") in ("true", "1")
        with self._lock:
            lines = self._lines.get((namespace, name, container, previous))
        if lines is None:
            _must_have_run(status, name, container, previous=previous)
        return _chosen(lines or [], query)


def _must_have_run(status: dict[str, object], pod: str, container: str, *, previous: bool) -> None:
    states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]  # type: ignore[misc]
    state = next((each for each in states if each["name"] == container), None)
    if previous and (state is None or not state.get("lastState")):
        raise bad_request(f'previous terminated container "{container}" in pod "{pod}" not found')
    waiting = state["state"].get("waiting") if state else {"reason": "ContainerCreating"}
    if waiting is not None and not previous:
        raise bad_request(f'container "{container}" in pod "{pod}" is waiting to start: {waiting.get("reason")}')


def _chosen(lines: list[_Line], query: dict[str, str]) -> bytes:
    if query.get("sinceSeconds"):
        start = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
        lines = [each for each in lines if each[0] >= start]
    if query.get("sinceTime"):
        start = datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00"))
        lines = [each for each in lines if each[0] >= start]
    if query.get("tailLines"):
        count = int(query["tailLines"])
        lines = lines[-count:] if count else []
    stamped = query.get("timestamps") in ("true", "1")
    text = "".join(f"{_nanoseconds(at)} {line}\n" if stamped else f"{line}\n" for at, line in lines)
    data = text.encode()
    return data[: int(query["limitBytes"])] if query.get("limitBytes") else data


def _nanoseconds(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
