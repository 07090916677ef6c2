"""Requests as a Kubernetes API server understands them: who asks, for what, and what is answered."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import msgspec

from tests.fakes.kubernetes import deletion, errors, listing, merge, reading, selectors
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.deletion import DeleteOptions
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.faults import WRITES, Counters, Faults, Seen
from tests.fakes.kubernetes.logs import Logs
from tests.fakes.kubernetes.objects import Objects, Outcome, Writing
from tests.fakes.kubernetes.protocol import Answer, Request, Stream
from tests.fakes.kubernetes.reading import Target
from tests.fakes.kubernetes.resources import Catalogue
from tests.fakes.kubernetes.storage import Stored
from tests.fakes.kubernetes.watch import Watch

Json = dict[str, Any]

_OPEN_TO_ALL = ("/version", "/readyz", "/livez", "/healthz")


@dataclass
class Options:
    """How this server behaves."""

    token: str = ""  # the one bearer token that is let in; empty: everybody is
    allow: Callable[[Json], bool] = lambda attributes: (
        True
    )  # SelfSubjectAccessReview: spec.resourceAttributes → allowed
    bookmark_seconds: float = 60.0
    watch_seconds: float = 3600.0
    watch_list: bool = False  # sendInitialEvents; the recorded server refuses it (its storage cannot tell progress)
    expire_as_event: bool = True  # 410 as an ERROR event in a 200 stream; otherwise as the answer
    control: dict[str, Callable[[Json], Any]] = field(default_factory=dict)  # POST /_control/<name>


class Api:
    """Answers requests. Not a thread of its own: called by the server's loop, one request at a time."""

    def __init__(self, objects: Objects, catalogue: Catalogue, logs: Logs, options: Options | None = None) -> None:
        self.objects = objects
        self.catalogue = catalogue
        self.logs = logs
        self.options = options or Options()
        self.faults = Faults()
        self.counters = Counters()
        self._target = lru_cache(maxsize=16_384)(partial(reading.target_of, catalogue))

    def answer(self, request: Request) -> Answer | Stream:
        """The answer to any request."""
        if request.path.startswith("/_control/"):
            return self._control(request)
        verb, about = request.method.lower(), ""
        try:
            target = self._target(request.path)
            if target is not None:
                verb = reading.verb_of(request, target)
                about = target.resource.plural + (f"/{target.subresource}" if target.subresource else "")
            self.faults.refuse(verb, request.path)
            self._authenticate(request, target, verb)
            answer = self._fixed(request.path) if target is None else self._serve(request, target, verb)
        except Refusal as refusal:
            answer = _refused(refusal)
        except Exception as error:  # noqa: BLE001 - a bug of the emulator must reach the test that met it, with its place
            words = "".join(traceback.format_exception(error))
            answer = _refused(Refusal(500, "InternalError", f"a bug in the emulator: {words}"))
        status = answer.status if isinstance(answer, Answer) else 200
        if verb in WRITES and request.query.get("dryRun"):
            verb = "dryrun"
        self.counters.note(Seen(verb, about, request.path, status))
        answer.delay = self.faults.seconds(verb, request.path)
        return answer

    def _control(self, request: Request) -> Answer:
        name = request.path.removeprefix("/_control/")
        if name == "counters":
            counts = [{"verb": v, "resource": r, "count": n} for (v, r), n in sorted(self.counters.counts.items())]
            return Answer(200, msgspec.json.encode({"requests": counts, "writes": len(self.counters.writes)}))
        call = self.options.control.get(name)
        if call is None:
            return Answer(404, b"{}")
        return Answer(200, msgspec.json.encode(call(msgspec.json.decode(request.body or b"{}"))))

    def _authenticate(self, request: Request, target: Target | None, verb: str) -> None:
        token = self.options.token
        if not token or request.path in _OPEN_TO_ALL:
            return
        sent = request.headers.get("authorization", "")
        if sent == f"Bearer {token}":
            return
        if sent:
            raise errors.unauthorized()
        if target is None:
            raise Refusal(403, "Forbidden", f'forbidden: User "system:anonymous" cannot get path "{request.path}"', {})
        resource = target.resource
        where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
        named = f' "{target.name}"' if target.name else ""
        verb = {"apply": "patch"}.get(verb, verb)
        words = (
            f'{resource.qualified}{named} is forbidden: User "system:anonymous" cannot {verb} resource '
            f'"{resource.plural}" in API group "{resource.group}" {where}'
        )
        raise Refusal(403, "Forbidden", words, errors.details(resource, target.name))

    def _fixed(self, path: str) -> Answer:
        """What is not about objects: the version, health, discovery."""
        found: Json | None = None
        path = path.rstrip("/")  # the official client asks for /version/
        parts = path.strip("/").split("/")
        if path == "/version":
            found = kinds.VERSION
        elif path in {"/readyz", "/livez", "/healthz"}:
            return Answer(200, b"ok", "text/plain; charset=utf-8")
        elif parts == ["api"]:
            found = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        elif parts == ["api", "v1"]:
            found = self.catalogue.version("", "v1")
        elif parts == ["apis"]:
            found = self.catalogue.groups()
        elif parts[0] == "apis" and len(parts) == 2:
            found = self.catalogue.group(parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            found = self.catalogue.version(parts[1], parts[2])
        if found is None:
            return Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
        return Answer(200, msgspec.json.encode(found))

    def _serve(self, request: Request, target: Target, verb: str) -> Answer | Stream:
        resource, namespace, name = target.resource, target.namespace, target.name
        if verb == "watch":
            return self._watch(request, target)
        if target.subresource == "log":
            return Answer(200, self.logs.read(self.objects, namespace, name, request.query), "text/plain")
        if verb == "list":
            partial = reading.wants_partial(request)
            return Answer(200, listing.write(self.objects.store, resource, namespace, request.query, partial=partial))
        with self.objects.store.lock:
            match verb:
                case "get":
                    return self._get(request, target)
                case "create":
                    return self._create(request, target)
                case "update" | "patch" | "apply":
                    return self._write(request, target, verb)
                case "delete":
                    return self._delete(request, target)
                case "deletecollection":
                    return self._delete_collection(request, target)
        raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})

    def _get(self, request: Request, target: Target) -> Answer:
        stored = self.objects.get(target.resource, target.namespace, target.name)
        if target.subresource == "scale":
            return Answer(200, msgspec.json.encode(_scale(stored)))
        return Answer(200, stored.partial if reading.wants_partial(request) else stored.full)

    def _create(self, request: Request, target: Target) -> Answer:
        sent = reading.body_of(request)
        if target.resource is kinds.REVIEWS:
            attributes = sent.get("spec", {}).get("resourceAttributes", {})
            allowed = bool(self.options.allow(attributes))
            head = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}}
            return Answer(
                201, msgspec.json.encode({**head, "spec": sent.get("spec", {}), "status": {"allowed": allowed}})
            )
        if target.subresource == "eviction":
            deletion.delete(self.objects, target.resource, target.namespace, target.name, DeleteOptions())
            success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
            return Answer(201, msgspec.json.encode(success))
        return _written(self.objects.create(target.resource, target.namespace, sent, reading.writing_of(request)))

    def _write(self, request: Request, target: Target, verb: str) -> Answer:
        resource, namespace, name = target.resource, target.namespace, target.name
        how, sent = reading.writing_of(request), reading.body_of(request)
        if target.subresource == "scale":
            return self._write_scale(request, target, sent, how)
        if verb == "update":
            return _written(self.objects.replace(resource, namespace, name, sent, how, target.subresource))
        if verb == "apply":
            if not request.query.get("fieldManager"):
                words = (
                    'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
                )
                raise Refusal(422, "Invalid", words)
            return _written(self.objects.apply(resource, namespace, name, sent, how, target.subresource))
        patched = reading.patcher_of(request, resource, sent)
        return _written(self.objects.change(resource, namespace, name, patched, how, target.subresource))

    def _write_scale(self, request: Request, target: Target, sent: Json, how: Writing) -> Answer:
        stored = self.objects.get(target.resource, target.namespace, target.name)
        if request.method == "PATCH":
            sent = merge.merge_patch(_scale(stored), sent)
        replicas = sent.get("spec", {}).get("replicas", 0)
        outcome = self.objects.merge(
            target.resource, target.namespace, target.name, {"spec": {"replicas": replicas}}, how, "scale"
        )
        return Answer(200, msgspec.json.encode(_scale(outcome.stored)))

    def _delete(self, request: Request, target: Target) -> Answer:
        options = DeleteOptions.read(reading.body_of(request) if request.body else {}, request.query)
        found = deletion.delete(self.objects, target.resource, target.namespace, target.name, options)
        return Answer(200, found.full if isinstance(found, Stored) else msgspec.json.encode(found))

    def _delete_collection(self, request: Request, target: Target) -> Answer:
        options = DeleteOptions.read(reading.body_of(request) if request.body else {}, request.query)
        matches = selectors.of_query(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        for each in self.objects.store.all(target.resource, target.namespace):
            if matches is None or matches(each.body):
                meta = each.body["metadata"]
                deletion.delete(self.objects, target.resource, meta.get("namespace", ""), meta["name"], options)
        return Answer(
            200, msgspec.json.encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        )

    def _watch(self, request: Request, target: Target) -> Answer | Stream:
        query, store = request.query, self.objects.store
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = ",".join(filter(None, (fields, f"metadata.name={target.name}")))
        matches = selectors.of_query(query.get("labelSelector", ""), fields)
        asked = query.get("resourceVersion", "")
        if asked and not asked.isdigit():
            raise errors.bad_request(f'resourceVersion: Invalid value: "{asked}": invalid syntax')
        since = int(asked or 0)
        watch = Watch(
            store, target.resource, target.namespace, matches, since=since, partial=reading.wants_partial(request)
        )
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        seconds = float(query.get("timeoutSeconds") or self.options.watch_seconds)
        stream = Stream(watch, request.path, [], seconds, self.options.bookmark_seconds if bookmarks else 0)
        if query.get("sendInitialEvents") == "true":
            if not self.options.watch_list:
                words = (
                    "a watch stream was requested by the client but the required storage feature "
                    "RequestWatchProgress is disabled"
                )
                stream.first, stream.last = [watch.error(Refusal(500, "InternalError", words))], True
            else:
                stream.first = watch.first(mark_end=True)
        elif since == 0:
            stream.first = watch.first()
        elif since < store.oldest:
            refusal = errors.expired(since, store.oldest)
            if not self.options.expire_as_event:
                raise refusal
            stream.first, stream.last = [watch.error(refusal)], True
        return stream


def _written(outcome: Outcome) -> Answer:
    answer = Answer(201 if outcome.created else 200, outcome.stored.full)
    if outcome.warnings:
        answer.headers["Warning"] = ", ".join(f"299 - {json.dumps(words)}" for words in outcome.warnings)
    return answer


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.code, msgspec.json.encode(refusal.status), headers=dict(refusal.headers))


def _scale(stored: Stored) -> Json:
    meta, spec = stored.body["metadata"], stored.body["spec"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Json = {"replicas": stored.body.get("status", {}).get("replicas", 0)}
    if "selector" in spec:
        status["selector"] = selectors.in_words(spec["selector"])
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": status,
    }
