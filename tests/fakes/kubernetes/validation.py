"""What the server refuses with 422: a few of its many rules, those a client of ours can run into."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes import selectors
from tests.fakes.kubernetes.errors import invalid
from tests.fakes.kubernetes.resources import Resource

Json = dict[str, Any]
Cause = tuple[str, str, str]  # reason, field, message

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_LABEL_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_SIXTY_THREE = (kinds.NAMESPACES, kinds.SERVICES)  # names that are DNS labels
_TEMPLATED = (kinds.DEPLOYMENTS, kinds.REPLICASETS, kinds.JOBS)


def validate(resource: Resource, body: Json, old: Json | None) -> None:
    """Raises a 422 that names every cause. `old` is None on create."""
    causes = _metadata(resource, body)
    if resource in (kinds.DEPLOYMENTS, kinds.REPLICASETS):
        causes += _selected_template(body, old)
    if resource in _TEMPLATED:
        causes += _pod_spec(body["spec"].get("template", {}).get("spec", {}), "spec.template.spec")
    if resource is kinds.PODS:
        causes += _pod_spec(body["spec"], "spec")
        if old is not None:
            causes += _pod_unchanged(body, old)
    if resource is kinds.SERVICES:
        causes += _service(body, old)
    if old is not None and resource in (kinds.SECRETS, kinds.CONFIGMAPS) and old.get("immutable"):
        causes += [
            ("FieldValueForbidden", name, "Forbidden: field is immutable when `immutable` is set")
            for name in ("data", "binaryData")
            if body.get(name) != old.get(name)
        ]
    if old is not None and resource is kinds.SECRETS and body.get("type") != old.get("type"):
        causes.append(("FieldValueInvalid", "type", f"Invalid value: {_go(body.get('type'))}: field is immutable"))
    if causes:
        raise invalid(resource, body["metadata"].get("name", ""), causes)


def _go(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _metadata(resource: Resource, body: Json) -> list[Cause]:
    meta = body["metadata"]
    causes: list[Cause] = []
    name = meta.get("name", "")
    label = resource in _SIXTY_THREE
    if not (_LABEL if label else _SUBDOMAIN).match(name):
        words = _LABEL_WORDS if label else _SUBDOMAIN_WORDS
        causes.append(("FieldValueInvalid", "metadata.name", f"Invalid value: {_go(name)}: {words}"))
    longest = 63 if label else 253
    if len(name) > longest:
        words = f"must be no more than {longest} characters"
        causes.append(("FieldValueInvalid", "metadata.name", f"Invalid value: {_go(name)}: {words}"))
    for key, value in meta.get("labels", {}).items():
        if not _LABEL_VALUE.match(value):
            words = f"Invalid value: {_go(value)}: {_LABEL_VALUE_WORDS}"
            causes.append(("FieldValueInvalid", "metadata.labels", words))
        elif len(value) > 63 or len(key.rpartition("/")[2]) > 63:
            long = value if len(value) > 63 else key
            words = f"Invalid value: {_go(long)}: must be no more than 63 characters"
            causes.append(("FieldValueInvalid", "metadata.labels", words))
    return causes


def _selected_template(body: Json, old: Json | None) -> list[Cause]:
    spec = body["spec"]
    selector = spec.get("selector")
    if selector is None:
        return [("FieldValueRequired", "spec.selector", "Required value")]
    causes: list[Cause] = []
    if spec.get("replicas", 0) < 0:
        words = f"Invalid value: {spec['replicas']}: must be greater than or equal to 0"
        causes.append(("FieldValueInvalid", "spec.replicas", words))
    labels = spec["template"]["metadata"].get("labels", {})
    if not selectors.matches(selector, labels):
        words = f"Invalid value: {_go(labels)}: `selector` does not match template `labels`"
        causes.append(("FieldValueInvalid", "spec.template.metadata.labels", words))
    if old is not None and selector != old["spec"]["selector"]:
        causes.append(("FieldValueInvalid", "spec.selector", f"Invalid value: {_go(selector)}: field is immutable"))
    return causes


def _pod_spec(spec: Json, at: str) -> list[Cause]:
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(("FieldValueRequired", f"{at}.containers", "Required value"))
    volumes = {each.get("name") for each in spec.get("volumes", ())}
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field, ())):
            causes += _container(container, f"{at}.{field}[{index}]", volumes)
    return causes


def _container(container: Json, at: str, volumes: set[Any]) -> list[Cause]:
    causes: list[Cause] = []
    if not container.get("image"):
        causes.append(("FieldValueRequired", f"{at}.image", "Required value"))
    for index, mount in enumerate(container.get("volumeMounts", ())):
        if mount["name"] not in volumes:
            words = f"Not found: {_go(mount['name'])}"
            causes.append(("FieldValueNotFound", f"{at}.volumeMounts[{index}].name", words))
    for port in container.get("ports", ()):
        if not 0 < port["containerPort"] < 65536:
            words = f"Invalid value: {port['containerPort']}: must be between 1 and 65535, inclusive"
            causes.append(("FieldValueInvalid", f"{at}.ports[0].containerPort", words))
    return causes


_POD_MAY_CHANGE = ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "nodeName")


def _pod_unchanged(body: Json, old: Json) -> list[Cause]:
    def fixed(spec: Json) -> Json:
        kept = {name: value for name, value in spec.items() if name not in _POD_MAY_CHANGE}
        for field in ("containers", "initContainers"):
            kept[field] = [{**each, "image": "", "resources": {}} for each in spec.get(field, ())]
        return kept

    if fixed(body["spec"]) == fixed(old["spec"]):
        return []
    words = (
        "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
        "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    return [("FieldValueForbidden", "spec", words)]


def _service(body: Json, old: Json | None) -> list[Cause]:
    spec = body["spec"]
    causes: list[Cause] = []
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        causes.append(("FieldValueRequired", "spec.ports", "Required value"))
    if len(spec.get("ports", ())) > 1:
        causes += [
            ("FieldValueRequired", f"spec.ports[{index}].name", "Required value")
            for index, port in enumerate(spec["ports"])
            if not port.get("name")
        ]
    if old is not None and spec.get("clusterIP") != old["spec"].get("clusterIP"):
        words = f"Invalid value: {_go([spec.get('clusterIP')])}: may not change once set"
        causes.append(("FieldValueInvalid", "spec.clusterIPs[0]", words))
    return causes
