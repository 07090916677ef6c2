"""The emulator: a Kubernetes API server in a thread, on loopback, with its cluster behind it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from types import TracebackType
from typing import Any

import yaml

from tests.fakes.kubernetes import certificates
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.api import Api, Options
from tests.fakes.kubernetes.cluster import Cluster
from tests.fakes.kubernetes.errors import expired
from tests.fakes.kubernetes.faults import Counters, Faults
from tests.fakes.kubernetes.logs import Logs
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.protocol import Connection, Connections
from tests.fakes.kubernetes.resources import BUILT_IN, Catalogue, Resource
from tests.fakes.kubernetes.storage import Store

_LOOPBACK = "127.0.0.1"
_PATIENCE = 10.0  # seconds for the thread to start and stop


class Emulator:
    """`with Emulator() as api:` serves at `api.url` until the block ends. All of it may be called from any thread.

    `cluster` is what a test plays behind it, `faults` breaks things, `counters` counts requests, `objects` and `store`
    are the cluster's content.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        options: Options | None = None,
        tls: bool = False,
        leader_worker_sets: bool = False,
        objects: Objects | None = None,
    ) -> None:
        extra: tuple[Resource, ...] = (kinds.LEADERWORKERSETS,) if leader_worker_sets else ()
        self.store: Store = objects.store if objects else Store()
        self.objects = objects or Objects(self.store)
        self.logs = Logs()
        self.cluster = Cluster(self.objects, self.logs)
        self.api = Api(self.objects, Catalogue((*BUILT_IN, *extra)), self.logs, options)
        self._port = port
        self._certificate = certificates.self_signed(_LOOPBACK) if tls else None
        self._connections = Connections(self.api, self.api.faults)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None
        self._told = threading.Lock()
        self._telling = False
        self.store.on_change.append(self._changed)

    @property
    def faults(self) -> Faults:
        """What is broken."""
        return self.api.faults

    @property
    def counters(self) -> Counters:
        """What was asked."""
        return self.api.counters

    @property
    def options(self) -> Options:
        """How the server behaves; may be changed while it runs."""
        return self.api.options

    @property
    def url(self) -> str:
        """Where it listens, or listened before `down`."""
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://{_LOOPBACK}:{self._port}"

    def kubeconfig(self, *, token: str | None = None) -> str:
        """A kubeconfig for it, as YAML. `token`: another than the right one."""
        given = self.options.token if token is None else token
        cluster: dict[str, Any] = {"server": self.url}
        if self._certificate:
            cluster["certificate-authority-data"] = self._certificate.authority_data
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "emulator",
                "clusters": [{"name": "emulator", "cluster": cluster}],
                "users": [{"name": "tester", "user": {"token": given} if given else {}}],
                "contexts": [{"name": "emulator", "context": {"cluster": "emulator", "user": "tester"}}],
            }
        )

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serves from a thread of its own."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="kubernetes-emulator", daemon=True)
        self._thread.start()
        if not ready.wait(_PATIENCE):
            raise TimeoutError("the emulator did not start")
        self.up()

    def stop(self) -> None:
        """Ends it and all connections."""
        self.cluster.stop_controllers()
        self.down()
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_PATIENCE)
        self._loop = None

    def down(self) -> None:
        """The server is gone: nothing listens, every connection is cut. Its content stays."""
        self._in_loop(self._close())

    def up(self) -> None:
        """Listens again, on the same port."""
        self._in_loop(self._listen())

    def expire_watch_cache(self, *, as_event: bool = True, break_open: bool = False) -> None:
        """Forgets all history: a watch or page from before now gets a 410, as an ERROR event in a 200 stream or as the
        answer. `break_open`: watches that run now get the ERROR event, too."""
        self.options.expire_as_event = as_event
        oldest = self.store.compact()
        if break_open:
            self._in_loop(self._break_watches(oldest))

    def _run(self, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop = loop
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _in_loop(self, work: Any) -> None:
        if self._loop is None:
            work.close()
            return
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        context: ssl.SSLContext | None = self._certificate.context if self._certificate else None
        listener = socket.create_server((_LOOPBACK, self._port), backlog=512, reuse_port=False)
        self._port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._connections), sock=listener, ssl=context)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._connections.drop_all()
        await self._connections.closed()

    async def _break_watches(self, oldest: int) -> None:
        for connection in list(self._connections.open):
            watch = connection.watch
            if watch is not None:
                watch.broken = expired(watch.since, oldest)
                connection.tell()

    def _changed(self, resource: Resource) -> None:
        """Wakes the watches once for all that changes before they look."""
        with self._told:
            if self._telling or self._loop is None:
                return
            self._telling = True
        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._told:
            self._telling = False
        self._connections.tell_watches()
