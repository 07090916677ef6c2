"""What a request asks for: which object, which verb, in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from tests.fakes.kubernetes import errors, merge, schema
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.objects import Writing
from tests.fakes.kubernetes.protocol import Request
from tests.fakes.kubernetes.resources import Catalogue, Resource

Json = dict[str, Any]

_APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


def target_of(catalogue: Catalogue, path: str) -> Target | None:
    """What a path names; None for what is no object."""
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, version, rest = "", "v1", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    if not rest or len(rest) > 3:
        return None
    resource = catalogue.find(group, version, rest[0])
    subresource = rest[2] if len(rest) == 3 else ""
    if resource is None or (namespace and not resource.namespaced):
        return None
    if subresource and subresource not in resource.subresources:
        return None
    return Target(resource, namespace, rest[1] if len(rest) > 1 else "", subresource)


def verb_of(request: Request, target: Target) -> str:
    """What a request does; server-side apply is a verb of its own here."""
    method = request.method
    if method in {"GET", "HEAD"}:
        if request.query.get("watch") in ("true", "1"):
            return "watch"
        return "get" if target.name else "list"
    if method == "POST" and (not target.name or target.subresource == "eviction"):
        return "create"
    if method == "PUT" and target.name:
        return "update"
    if method == "PATCH" and target.name:
        return "apply" if _content_type(request) == _APPLY else "patch"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return method.lower()


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip()


def wants_partial(request: Request) -> bool:
    """Whether only metadata is asked for."""
    return "as=PartialObjectMetadata" in request.headers.get("accept", "")


def writing_of(request: Request) -> Writing:
    """Who writes, and how."""
    query = request.query
    manager = query.get("fieldManager") or request.headers.get("user-agent", "unknown").partition("/")[0]
    return Writing(
        manager,
        force=query.get("force") in ("true", "1"),
        dry_run=query.get("dryRun") == "All",
        validation=query.get("fieldValidation") or "Warn",
    )


def body_of(request: Request) -> Any:
    """The body, as JSON or YAML. Raises a 400."""
    try:
        return msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        pass
    try:
        return yaml.load(request.body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - it is a safe one
    except yaml.YAMLError as error:
        raise errors.bad_request(f"error decoding YAML: {error}") from error


def patcher_of(request: Request, resource: Resource, sent: Any) -> Callable[[Json], Json]:
    """What a patch makes of an object, by its content type. Raises a 415."""
    match _content_type(request):
        case "application/merge-patch+json":
            return lambda body: merge.merge_patch(body, sent)
        case "application/strategic-merge-patch+json":
            return lambda body: merge.strategic(body, sent, schema.of(resource.schema))
        case "application/json-patch+json":
            return lambda body: merge.json_patch(body, sent)
    raise Refusal(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        f"application/json-patch+json, application/merge-patch+json, {_APPLY}",
        {},
    )
