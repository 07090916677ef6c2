"""What can be done with objects, without HTTP: clients' requests and the emulator's own controllers both end here.

One write: read by its type → defaults → owners → admission → validation → generation → stored, unless nothing changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.kubernetes import (
    admission,
    defaults,
    empty,
    errors,
    lifecycle,
    merge,
    ownership,
    schema,
    typed,
    validation,
)
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.ownership import APPLY, UPDATE, Writer
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Store, Stored

Json = dict[str, Any]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: nothing that could spell a word
_KEEPS_STATUS_ON_CREATE = (kinds.NODES, kinds.EVENTS)


@dataclass(slots=True)
class Outcome:
    """The object after a write, and what the answer says besides."""

    stored: Stored
    created: bool = False
    deleted: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Writing:
    """How a client asked for a write."""

    manager: str
    force: bool = False
    dry_run: bool = False
    validation: str = "Warn"  # fieldValidation: Strict, Warn or Ignore
    trusted: bool = False  # our own controllers: what they write is not checked for its type


class Objects:
    """The objects of one cluster."""

    def __init__(self, store: Store, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.store = store
        self._now = now
        self._random = random.Random()

    def timestamp(self, *, later: float = 0) -> str:
        """Now, as Kubernetes writes times; `later` seconds on."""
        return datetime.fromtimestamp(int(self._now().timestamp() + later), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def suffix(self) -> str:
        """Five characters as in generated names."""
        return "".join(self._random.choices(_ALPHABET, k=5))

    def get(self, resource: Resource, namespace: str, name: str) -> Stored:
        """One object; a 404 if it is not there."""
        found = self.store.get(resource, namespace, name)
        if found is None:
            raise errors.not_found(resource, name)
        return found

    def create(self, resource: Resource, namespace: str, sent: Json, how: Writing) -> Outcome:
        """POST."""
        _same_kind(resource, sent)
        sent = _bare(sent)
        warnings = self._read(resource, sent, how)
        body = typed.normal(sent, schema.of(resource.schema))
        meta = body.setdefault("metadata", {})
        for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(name, None)
        if "name" not in meta and "generateName" in meta:
            meta["name"] = meta["generateName"] + self.suffix()
        if not meta.get("name"):
            cause = ("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")
            raise errors.invalid(resource, "", [cause])
        self._admits(resource, namespace, meta)
        if self.store.get(resource, namespace, meta["name"]) is not None:
            raise errors.already_exists(resource, meta["name"])
        if "status" in resource.subresources and resource not in _KEEPS_STATUS_ON_CREATE:
            body.pop("status", None)
        writer = Writer(how.manager, UPDATE, resource.api_version)
        return self._write(resource, None, body, writer, how, warnings)

    def apply(
        self, resource: Resource, namespace: str, name: str, config: Json, how: Writing, subresource: str = ""
    ) -> Outcome:
        """PATCH with application/apply-patch+yaml."""
        _same_kind(resource, config)
        found = typed.problems(_bare(config), schema.of(resource.schema))
        if found:
            raise _untyped(resource, config, found)
        meta = config.get("metadata", {})
        if meta.get("managedFields") is not None:
            raise errors.bad_request("metadata.managedFields must be nil")
        live = self.store.get(resource, namespace, name)
        if live is None:
            if subresource:
                raise errors.not_found(resource, name)
            self._admits(resource, namespace, {**meta, "name": name})
        elif meta.get("resourceVersion", live.body["metadata"]["resourceVersion"]) != str(live.version):
            raise errors.modified(resource, name)
        writer = Writer(how.manager, APPLY, resource.api_version, subresource)
        old = live.body if live else None
        managed = old["metadata"].get("managedFields", []) if old else []
        spared = _spared(resource, subresource)
        merged, owners = ownership.apply(
            ownership.stripped(old or {}, *spared),
            ownership.stripped(config, *spared),
            schema.of(resource.schema),
            writer,
            force=how.force,
            now=self.timestamp(),
            managed=managed,
        )
        body = {**typed.normal(merged, schema.of(resource.schema)), **_kept(old or {}, spared)}
        body.setdefault("metadata", {}).update(name=name, **({"namespace": namespace} if namespace else {}))
        return self._write(resource, live, body, writer, how, [], owners)

    def replace(
        self, resource: Resource, namespace: str, name: str, sent: Json, how: Writing, subresource: str = ""
    ) -> Outcome:
        """PUT, and what a patch comes down to. A resourceVersion in it must be the current one."""
        live = self.get(resource, namespace, name)
        spared = _spared(resource, subresource)
        _same_kind(resource, sent)
        sent = _bare(sent, *spared)
        warnings = self._read(resource, sent, how)
        meta = sent.get("metadata", {})
        if meta.get("resourceVersion") not in (None, "", str(live.version)):
            raise errors.modified(resource, name)
        if meta.get("uid") not in (None, "", live.body["metadata"]["uid"]):
            raise errors.wrong_uid(resource, name, meta["uid"], live.body["metadata"]["uid"])
        body = {**typed.normal(sent, schema.of(resource.schema)), **_kept(live.body, spared)}
        body.setdefault("metadata", {})
        return self._write(
            resource, live, body, Writer(how.manager, UPDATE, resource.api_version, subresource), how, warnings
        )

    def change(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Callable[[Json], Json],
        how: Writing,
        subresource: str = "",
    ) -> Outcome:
        """Any patch but apply: whatever `patch` makes of the current object."""
        live = self.get(resource, namespace, name)
        current = {"kind": resource.kind, "apiVersion": resource.api_version, **live.body}
        return self.replace(resource, namespace, name, patch(current), how, subresource)

    def merge(
        self, resource: Resource, namespace: str, name: str, patch: Json, how: Writing, subresource: str = ""
    ) -> Outcome:
        """A JSON merge patch; what controllers write their findings with."""
        return self.change(resource, namespace, name, lambda body: merge.merge_patch(body, patch), how, subresource)

    def set_status(
        self, stored: Stored, status: Json, manager: str, annotations: dict[str, str] | None = None
    ) -> Stored:
        """What a controller does at the end of a pass: the whole status, through the subresource."""
        meta = stored.body["metadata"]
        body = {**stored.body, "status": status}
        if annotations:
            body["metadata"] = {**meta, "annotations": {**meta.get("annotations", {}), **annotations}}
        how = Writing(manager, trusted=True)
        return self.replace(
            stored.resource, meta.get("namespace", ""), meta["name"], body, how, subresource="status"
        ).stored

    def _read(self, resource: Resource, sent: Json, how: Writing) -> list[str]:
        """Checks an object's type as decoding does. Gives the warnings about fields nobody knows."""
        if how.trusted:
            return []
        found = typed.problems(sent, schema.of(resource.schema))
        prefix = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        wrong = [each for each in found if not each.unknown]
        if wrong:
            raise errors.bad_request(f"{prefix}json: cannot unmarshal {wrong[0].dotted}: {wrong[0].words}")
        unknown = [f'unknown field "{each.dotted}"' for each in found]
        if unknown and how.validation == "Strict":
            raise errors.bad_request(f"{prefix}strict decoding error: {', '.join(unknown)}")
        return unknown if how.validation == "Warn" else []

    def _admits(self, resource: Resource, namespace: str, meta: Json) -> None:
        if not resource.namespaced:
            return
        if meta.get("namespace", namespace) != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        admission.namespace_admits(self.store, resource, namespace, meta["name"])
        meta["namespace"] = namespace

    def _write(
        self,
        resource: Resource,
        live: Stored | None,
        body: Json,
        writer: Writer,
        how: Writing,
        warnings: list[str],
        owners: list[Json] | None = None,
    ) -> Outcome:
        old = live.body if live else None
        now = self.timestamp()
        lifecycle.restore_fixed(resource, body, old, now)
        defaults.fill(resource, body, old)
        if owners is None:
            before = ownership.stripped(old) if old else ownership.stripped(empty.of(resource))
            held = old["metadata"].get("managedFields", []) if old else []
            node = schema.of(resource.schema)
            owners = ownership.update(before, ownership.stripped(body), node, writer, now=now, managed=held)
        body["metadata"]["managedFields"] = owners
        warnings = warnings + admission.admit(self.store, resource, body, creating=old is None)
        defaults.allocate(resource, body, old)
        validation.validate(resource, body, old)
        if old is not None:
            lifecycle.count_generation(resource, body, old, writer.subresource)
            if lifecycle.is_same(body, old):
                assert live is not None
                return Outcome(live, warnings=warnings)
        if how.dry_run:
            if old is not None:
                body["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            return Outcome(Stored(resource, body), created=old is None, warnings=warnings)
        meta = body["metadata"]
        if lifecycle.may_go(resource, body):
            gone = self.store.remove(resource, meta.get("namespace", ""), meta["name"])
            assert gone is not None
            return Outcome(gone, deleted=True, warnings=warnings)
        return Outcome(self.store.put(resource, body), created=old is None, warnings=warnings)


def _bare(sent: Json, *dropped: str) -> Json:
    """What of an object is read: not its type, nor who owns what, for the server knows that itself."""
    bare = {name: value for name, value in sent.items() if name not in {"kind", "apiVersion"} and name not in dropped}
    meta = bare.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        bare["metadata"] = {name: value for name, value in meta.items() if name != "managedFields"}
    return bare


def _kept(old: Json, spared: tuple[str, ...]) -> Json:
    """The parts a write leaves alone. They are whole already, so that filling in defaults changes nothing in them."""
    return {name: dict(old[name]) for name in spared if name in old}


def _same_kind(resource: Resource, sent: Json) -> None:
    if not isinstance(sent, dict):
        raise errors.bad_request("the object provided is unrecognized (must be of type object)")
    kind, version = sent.get("kind", resource.kind), sent.get("apiVersion", resource.api_version)
    if (kind, version) != (resource.kind, resource.api_version):
        raise errors.bad_request(
            f'{kind} in version "{version}" cannot be handled as a {resource.kind}: the API version in the data '
            f"({version}) does not match the expected API version ({resource.api_version})"
        )


def _untyped(resource: Resource, config: Json, found: list[typed.Problem]) -> Refusal:
    meta = config.get("metadata", {})
    about = f"({meta.get('namespace', '')}/{meta.get('name', '')}; {resource.api_version}, Kind={resource.kind})"
    lines = [f"{each.path}: {each.words}" for each in found]
    words = lines[0] if len(lines) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in lines)
    return Refusal(500, "", f"failed to create typed patch object {about}: {words}")


def _spared(resource: Resource, subresource: str) -> tuple[str, ...]:
    """The parts of an object that a write through that door leaves as they are."""
    if subresource == "status":
        return ("spec",)
    return ("status",) if "status" in resource.subresources else ()
