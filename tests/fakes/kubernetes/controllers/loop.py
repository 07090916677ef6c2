"""Runs the controllers: changes in, keys queued, one object after the other, until nothing changes any more."""

from __future__ import annotations

import threading

from tests.fakes.kubernetes.controllers.base import Controller
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Key, Store

# Refusals a controller meets in the ordinary course: its namespace is going away. It looks again after the next change.
_TRIED_AGAIN = (403, 404, 409)
_ROUNDS = 10_000  # a cluster that has not settled by then never will: two controllers fight


class Loop:
    """All controllers of one cluster. Steps are taken by whoever calls `settle`, or by the thread of `start`."""

    def __init__(self, store: Store, controllers: list[Controller]) -> None:
        self._store = store
        self._controllers = controllers
        self._watched: list[Resource] = sorted(
            {each for controller in controllers for each in controller.watches}, key=lambda each: each.plural
        )
        self._queues: dict[Controller, dict[Key, None]] = {each: {} for each in controllers}
        self._seen = 0
        self._stepping = threading.RLock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        store.on_change.append(lambda _: self._wake.set())

    def settle(self) -> None:
        """Until nothing is left to do. Raises if there is no end to it."""
        for _ in range(_ROUNDS):
            if not self.step():
                return
        raise RuntimeError("the cluster does not settle")

    def step(self) -> bool:
        """One round: everything that is queued now. Whether there was anything."""
        with self._stepping:
            with self._store.lock:
                self._enqueue()
            busy = False
            for controller, queue in self._queues.items():
                keys = list(queue)
                queue.clear()
                for key in keys:
                    busy = True
                    with self._store.lock:  # released in between: clients are served meanwhile
                        self._sync(controller, key)
            return busy or self._seen < self._store.version

    @staticmethod
    def _sync(controller: Controller, key: Key) -> None:
        try:
            controller.sync(key)
        except Refusal as refusal:
            if refusal.code not in _TRIED_AGAIN:
                raise

    def resync(self) -> None:
        """Queues everything there is, although nothing changed: what depends on the time may have."""
        with self._stepping, self._store.lock:
            for controller, queue in self._queues.items():
                queue.update(dict.fromkeys(controller.relist()))
        self._wake.set()

    def _enqueue(self) -> None:
        version = self._store.version
        if self._seen < self._store.oldest:
            for controller, queue in self._queues.items():
                queue.update(dict.fromkeys(controller.relist()))
        else:
            events = [event for each in self._watched for event in self._store.since(each, self._seen)]
            for event in sorted(events, key=lambda each: each.version):
                for controller, queue in self._queues.items():
                    if event.after.resource in controller.watches:
                        queue.update(dict.fromkeys(controller.concerned(event)))
        self._seen = version

    def start(self) -> None:
        """Settles after every change, in a thread, until `stop`."""
        self._stopping = False
        self._wake.set()
        self._thread = threading.Thread(target=self._run, name="kubernetes-controllers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        thread, self._thread = self._thread, None
        self._stopping = True
        self._wake.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopping:
                return
            while self.step() and not self._stopping:
                pass
