"""The restricted and baseline Pod Security Standards, in the words of k8s.io/pod-security-admission.

A namespace asks for them by label: `pod-security.kubernetes.io/enforce` refuses pods, `…/warn` warns about templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]

_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)


def violations(level: str, spec: Json) -> str:
    """What a pod spec violates, as one text; empty if nothing."""
    checks = {"baseline": _BASELINE, "restricted": _RESTRICTED}.get(level, ())
    return ", ".join(found for check in checks for found in [check(spec)] if found)


def _containers(spec: Json) -> Iterator[Json]:
    yield from spec.get("initContainers", ())
    yield from spec.get("containers", ())


def _security(container: Json) -> Json:
    return container.get("securityContext") or {}


def _named(names: list[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"container{'s' if len(names) > 1 else ''} {quoted}"


def _bad(spec: Json, test: Callable[[Json], bool]) -> list[str]:
    return [each["name"] for each in _containers(spec) if test(each)]


def _host_namespaces(spec: Json) -> str:
    used = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return f"host namespaces ({', '.join(used)})" if used else ""


def _privileged(spec: Json) -> str:
    names = _bad(spec, lambda each: bool(_security(each).get("privileged")))
    return f"privileged ({_named(names)} must not set securityContext.privileged=true)" if names else ""


def _added_capabilities(spec: Json) -> str:
    names, added = [], set()
    for container in _containers(spec):
        extra = set(_security(container).get("capabilities", {}).get("add", ())) - _CAPABILITIES
        if extra:
            names.append(container["name"])
            added |= extra
    if not names:
        return ""
    quoted = ", ".join(f'"{name}"' for name in sorted(added))
    return f"non-default capabilities ({_named(names)} must not include {quoted} in securityContext.capabilities.add)"


def _host_paths(spec: Json) -> str:
    names = [each["name"] for each in spec.get("volumes", ()) if "hostPath" in each]
    if not names:
        return ""
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"hostPath volumes (volume{'s' if len(names) > 1 else ''} {quoted})"


def _host_ports(spec: Json) -> str:
    names = _bad(spec, lambda each: any(port.get("hostPort") for port in each.get("ports", ())))
    ports = sorted(
        {str(p["hostPort"]) for each in _containers(spec) for p in each.get("ports", ()) if p.get("hostPort")}
    )
    return (
        f"hostPort ({_named(names)} uses hostPort{'s' if len(ports) > 1 else ''} {', '.join(ports)})" if names else ""
    )


def _escalation(spec: Json) -> str:
    names = _bad(spec, lambda each: _security(each).get("allowPrivilegeEscalation") is not False)
    if not names:
        return ""
    return (
        f"allowPrivilegeEscalation != false ({_named(names)} must set securityContext.allowPrivilegeEscalation=false)"
    )


def _capabilities(spec: Json) -> str:
    names = _bad(spec, lambda each: "ALL" not in _security(each).get("capabilities", {}).get("drop", ()))
    adding = _bad(
        spec, lambda each: bool(set(_security(each).get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"})
    )
    words = []
    if names:
        words.append(f'{_named(names)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        words.append(f'{_named(adding)} must not include capabilities other than "NET_BIND_SERVICE"')
    return f"unrestricted capabilities ({'; '.join(words)})" if words else ""


def _volume_types(spec: Json) -> str:
    found = [
        (each["name"], kind) for each in spec.get("volumes", ()) for kind in each if kind not in _VOLUMES | {"name"}
    ]
    if not found:
        return ""
    names = ", ".join(f'"{name}"' for name, _ in found)
    types = ", ".join(f'"{kind}"' for kind in sorted({kind for _, kind in found}))
    many = len(found) > 1
    return (
        f"restricted volume types (volume{'s' if many else ''} {names} use{'' if many else 's'} restricted volume type"
        f"{'s' if ', ' in types else ''} {types})"
    )


def _inherited(spec: Json, read: Callable[[Json], Any], fine: Callable[[Any], bool]) -> list[str]:
    """Containers for which neither they nor the pod say what is wanted."""
    pod_is_fine = fine(read(spec.get("securityContext") or {}))
    bad = []
    for container in _containers(spec):
        own = read(_security(container))
        if not (pod_is_fine if own is None else fine(own)):
            bad.append(container["name"])
    return bad


def _non_root(spec: Json) -> str:
    names = _inherited(spec, lambda each: each.get("runAsNonRoot"), lambda value: value is True)
    return f"runAsNonRoot != true (pod or {_named(names)} must set securityContext.runAsNonRoot=true)" if names else ""


def _root_user(spec: Json) -> str:
    if (spec.get("securityContext") or {}).get("runAsUser") == 0:
        return "runAsUser=0 (pod must not set runAsUser=0)"
    names = _bad(spec, lambda each: _security(each).get("runAsUser") == 0)
    return f"runAsUser=0 ({_named(names)} must not set runAsUser=0)" if names else ""


def _seccomp(spec: Json) -> str:
    allowed = {"RuntimeDefault", "Localhost"}
    names = _inherited(
        spec, lambda each: (each.get("seccompProfile") or {}).get("type"), lambda value: value in allowed
    )
    if not names:
        return ""
    return (
        f'seccompProfile (pod or {_named(names)} must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")'
    )


_BASELINE = (_host_namespaces, _privileged, _added_capabilities, _host_paths, _host_ports)
_RESTRICTED = (
    _host_namespaces,
    _privileged,
    _host_ports,
    _escalation,
    _capabilities,
    _volume_types,
    _non_root,
    _root_user,
    _seccomp,
)
