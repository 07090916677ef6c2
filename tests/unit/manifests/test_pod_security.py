"""The checker of the restricted standard: it finds what it is there to find."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.factories.pod_security import violations
from tests.unit.manifests.cases import CASES
from tests.unit.manifests.checks import pod_of


def _pod() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(pod_of(CASES["chat"].objects())))
    return found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"hostIPC": True}, "hostIPC"),
        ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"volumes": [{"name": "share", "nfs": {"server": "x", "path": "/"}}]}, "nfs"),
        ({"securityContext": {"runAsNonRoot": True}}, "seccompProfile"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "sysctls"),
        ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "hostProcess"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(change: dict[str, Any], found: str) -> None:
    assert any(found in violation for violation in violations(_pod() | change))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"privileged": True}, "privileged"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"capabilities": {"drop": ["NET_RAW"]}}, "capabilities"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]}}, "SYS_PTRACE"),
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"runAsUser": 0}, "runAsUser"),
        ({"procMount": "Unmasked"}, "procMount"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
        ({"appArmorProfile": {"type": "Unconfined"}}, "appArmorProfile"),
        ({"seLinuxOptions": {"type": "spc_t"}}, "seLinuxOptions"),
    ],
)
def test_a_container_that_is_not_restricted_is_found(change: dict[str, Any], found: str) -> None:
    for group in ("initContainers", "containers"):
        pod = _pod()
        pod[group][0]["securityContext"].update(change)
        assert any(found in violation and group in violation for violation in violations(pod))


def test_host_ports_and_probes_of_other_hosts_are_found() -> None:
    pod = _pod()
    pod["containers"][0]["ports"][0]["hostPort"] = 80
    pod["containers"][0]["livenessProbe"]["httpGet"]["host"] = "example.com"
    assert len(violations(pod)) == 2
    annotations = {"container.apparmor.security.beta.kubernetes.io/engine": "unconfined"}
    assert len(violations(_pod(), {"annotations": annotations})) == 1
    assert violations(_pod()) == []
