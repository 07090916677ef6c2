"""What a test can break, and what it can count."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.fakes.kubernetes.errors import Refusal

_REASONS = {
    403: ("Forbidden", "forbidden by a fault"),
    409: ("Conflict", "Operation cannot be fulfilled: the object has been modified; please apply your changes to the "
          "latest version and try again"),
    410: ("Expired", "The resourceVersion for the provided watch is too old."),
    429: ("TooManyRequests", "Too many requests, please try again later."),
    500: ("InternalError", "Internal error occurred: a fault"),
    503: ("ServiceUnavailable", "apiserver not ready"),
    504: ("Timeout", "Timeout: request did not complete within the allotted timeout"),
}  # fmt: skip

WRITES = frozenset({"create", "update", "patch", "apply", "delete", "deletecollection"})


@dataclass(slots=True)
class _Fault:
    verb: re.Pattern[str]
    path: re.Pattern[str]
    left: float

    def takes(self, verb: str, path: str) -> bool:
        """Whether the request is one of its; then one fewer is left."""
        if self.left <= 0 or not self.verb.fullmatch(verb) or not self.path.search(path):
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class _Answer(_Fault):
    refusal: Refusal = field(default_factory=lambda: Refusal(500, "InternalError", ""))


@dataclass(slots=True)
class _Delay(_Fault):
    seconds: float = 0


class Faults:
    """Faults by verb and path, both regular expressions; verbs as in `Counters`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: list[_Answer] = []
        self._delays: list[_Delay] = []
        self._frozen: list[_Fault] = []
        self._cut: list[_Fault] = []

    def answer(
        self, status: int, *, times: float = 1, verb: str = ".*", path: str = "", retry_after: int | None = None
    ) -> None:
        """The next `times` requests that match are refused with that status and do nothing."""
        reason, message = _REASONS[status]
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        details = {} if retry_after is None else {"retryAfterSeconds": retry_after}
        refusal = Refusal(status, reason, message, details or None, headers=headers)
        with self._lock:
            self._answers.append(_Answer(re.compile(verb), re.compile(path), times, refusal))

    def delay(self, seconds: float, *, times: float = float("inf"), verb: str = ".*", path: str = "") -> None:
        """Requests that match are answered that much later."""
        with self._lock:
            self._delays.append(_Delay(re.compile(verb), re.compile(path), times, seconds))

    def freeze_watches(self, *, path: str = "") -> None:
        """Half-open: watches that match stay connected and are told nothing more, those that run and those to come."""
        with self._lock:
            self._frozen.append(_Fault(re.compile(".*"), re.compile(path), float("inf")))

    def cut_watch(self, *, times: float = 1, path: str = "") -> None:
        """The next event of a watch that matches ends in the middle of its line, and the connection with it."""
        with self._lock:
            self._cut.append(_Fault(re.compile(".*"), re.compile(path), times))

    def clear(self) -> None:
        """No faults any more. Watches that were frozen go on."""
        with self._lock:
            for held in (self._answers, self._delays, self._frozen, self._cut):
                held.clear()

    def refuse(self, verb: str, path: str) -> None:
        """Raises what a request is refused with, if anything."""
        if not self._answers:
            return
        with self._lock:
            refusal = next((each.refusal for each in self._answers if each.takes(verb, path)), None)
        if refusal is not None:
            raise refusal

    def seconds(self, verb: str, path: str) -> float:
        """How long a request is held back."""
        if not self._delays:
            return 0
        with self._lock:
            return next((each.seconds for each in self._delays if each.takes(verb, path)), 0)

    def is_frozen(self, path: str) -> bool:
        """Whether a watch says nothing now."""
        with self._lock:
            return any(each.path.search(path) for each in self._frozen)

    def cuts(self, path: str) -> bool:
        """Whether a watch's next event is its broken last."""
        if not self._cut:
            return False
        with self._lock:
            return any(each.takes("watch", path) for each in self._cut)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it was counted."""

    verb: str
    resource: str
    path: str
    status: int


class Counters:
    """Requests by (verb, resource): ("apply", "deployments"), ("list", "pods"), ("get", "pods/log").

    Verbs: get, list, watch, create, update, apply (server-side), patch (any other), delete, deletecollection. Dry runs
    count as `dryrun`: they write nothing. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._writes: list[Seen] = []

    def note(self, seen: Seen) -> None:
        """Counts one."""
        with self._lock:
            self._counts[(seen.verb, seen.resource)] += 1
            if seen.verb in WRITES:
                self._writes.append(seen)

    def reset(self) -> None:
        """Back to nothing."""
        with self._lock:
            self._counts.clear()
            self._writes.clear()

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Requests so far."""
        with self._lock:
            return dict(self._counts)

    @property
    def writes(self) -> list[Seen]:
        """The writes so far, refused ones too, in order."""
        with self._lock:
            return list(self._writes)

    def of(self, verb: str, resource: str = "") -> int:
        """How many of a verb, of one resource or of all."""
        return sum(count for (each, about), count in self.counts.items() if each == verb and resource in ("", about))
