"""The restricted Pod Security Standard as a list of what a pod does against it.

After https://kubernetes.io/docs/concepts/security/pod-security-standards/, policy version `latest`. For pods on Linux.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret", "image",
}  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
_SELINUX_TYPES = {"", None, "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SECCOMP = {"RuntimeDefault", "Localhost"}
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod_spec: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> list[str]:
    """Every way in which the pod is not restricted, with the path of the field; empty where it is."""
    return [*_of_pod(pod_spec, metadata or {}), *_of_containers(pod_spec)]


def _of_pod(pod: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} must not be set"
    for volume in pod.get("volumes") or ():
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volumes[{volume['name']}]: {kind} is not allowed"
    context = pod.get("securityContext") or {}
    yield from _of_context(context, "securityContext")
    for sysctl in context.get("sysctls") or ():
        if sysctl["name"] not in _SYSCTLS:
            yield f"securityContext.sysctls: {sysctl['name']} is not allowed"
    for key, value in (metadata.get("annotations") or {}).items():
        if key.startswith(_APPARMOR) and not (value == "runtime/default" or value.startswith("localhost/")):
            yield f"annotations[{key}]: {value} is not allowed"


def _of_containers(pod: Mapping[str, Any]) -> Iterator[str]:
    shared = pod.get("securityContext") or {}
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(group) or ():
            path = f"{group}[{container['name']}]"
            own = container.get("securityContext") or {}
            yield from _of_context(own, f"{path}.securityContext")
            yield from _of_privileges(own, f"{path}.securityContext")
            if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
                yield f"{path}: runAsNonRoot must be true"
            if ((own.get("seccompProfile") or shared.get("seccompProfile")) or {}).get("type") not in _SECCOMP:
                yield f"{path}: seccompProfile must be RuntimeDefault or Localhost"
            for port in container.get("ports") or ():
                if port.get("hostPort"):
                    yield f"{path}.ports: hostPort {port['hostPort']} is not allowed"
            yield from _of_actions(container, path)


def _of_context(context: Mapping[str, Any], path: str) -> Iterator[str]:
    """What a pod's and a container's security context have in common."""
    if context.get("runAsNonRoot") is False:
        yield f"{path}.runAsNonRoot must not be false"
    if context.get("runAsUser") == 0:
        yield f"{path}.runAsUser must not be 0"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{path}.windowsOptions.hostProcess must not be set"
    if "seccompProfile" in context and context["seccompProfile"].get("type") not in _SECCOMP:
        yield f"{path}.seccompProfile must be RuntimeDefault or Localhost"
    if "appArmorProfile" in context and context["appArmorProfile"].get("type") not in _SECCOMP:
        yield f"{path}.appArmorProfile must be RuntimeDefault or Localhost"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{path}.seLinuxOptions are not allowed"


def _of_privileges(context: Mapping[str, Any], path: str) -> Iterator[str]:
    """What only a container's has."""
    if context.get("privileged"):
        yield f"{path}.privileged must not be set"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{path}.allowPrivilegeEscalation must be false"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"{path}.capabilities must drop ALL"
    for capability in set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"{path}.capabilities must not add {capability}"
    if context.get("procMount", "Default") != "Default":
        yield f"{path}.procMount must be Default"


def _of_actions(container: Mapping[str, Any], path: str) -> Iterator[str]:
    """Probes and hooks must not reach other hosts (since Kubernetes 1.34)."""
    actions = {name: container.get(name) for name in _PROBES}
    actions.update(container.get("lifecycle") or {})
    for name, action in actions.items():
        for way in ("httpGet", "tcpSocket"):
            if ((action or {}).get(way) or {}).get("host"):
                yield f"{path}.{name}.{way}.host must not be set"
