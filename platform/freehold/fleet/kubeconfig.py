"""A kubeconfig, read with suspicion: the current context's server and credentials, and nothing that reaches elsewhere.

A kubeconfig can name programs to run and files to read, on the machine of whoever loads it. Ours comes from a form, so
both are refused, with how to write the same without them. Format: Kubernetes' client-go, clientcmd/api/v1. Pure: no
Django.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import yaml

from freehold.common.errors import InvalidInput

MAX_BYTES: Final = 256 * 1024
_FLATTEN: Final = "Put its content into the kubeconfig: kubectl config view --flatten --minify."
_FILES_OF_CLUSTER: Final = {"certificate-authority": "certificate-authority-data"}
_FILES_OF_USER: Final = {
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "tokenFile": "token",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach one API server, and as whom.

    Attributes:
        server: `https://host:port`; plain http and unverified certificates only on this machine.
        ca, client_certificate, client_key: PEM; empty where not given.
        token: a bearer token, or empty.
        tls_server_name: the name in the server's certificate where it is not the address's.
        verify: whether the server's certificate is checked.
        namespace: the context's; for messages only.
    """

    server: str
    ca: bytes = field(default=b"", repr=False)
    client_certificate: bytes = field(default=b"", repr=False)
    client_key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    tls_server_name: str = ""
    verify: bool = True
    namespace: str = ""


def parse(text: str) -> Access:
    """The current context of a kubeconfig. Raises InvalidInput (field `kubeconfig`) with the reason and the remedy."""
    document = _load(text)
    context = _named(document, "contexts", "context", _text(document, "current-context", of="kubeconfig"))
    cluster = _named(document, "clusters", "cluster", _text(context, "cluster", of="current context"))
    user = _named(document, "users", "user", _text(context, "user", of="current context"))
    _check_files(cluster, "cluster", _FILES_OF_CLUSTER)
    _check_user(user)
    server, is_near = _server(cluster)
    verify = not _flag(cluster, "insecure-skip-tls-verify")
    if not verify and not is_near:
        _refuse(
            "The kubeconfig sets insecure-skip-tls-verify: anybody between us and the cluster could read its "
            "credentials. Give the server's certificate-authority-data instead."
        )
    if cluster.get("proxy-url"):
        _refuse("The kubeconfig names a proxy (proxy-url), which is not supported. Give an address that we can reach.")
    access = Access(
        server=server,
        ca=_pem(cluster, "certificate-authority-data"),
        client_certificate=_pem(user, "client-certificate-data"),
        client_key=_pem(user, "client-key-data"),
        token=_optional(user, "token"),
        tls_server_name=_optional(cluster, "tls-server-name"),
        verify=verify,
        namespace=_optional(context, "namespace"),
    )
    if bool(access.client_certificate) != bool(access.client_key):
        _refuse("client-certificate-data and client-key-data belong together: the kubeconfig has only one of them.")
    if not access.token and not access.client_certificate:
        _refuse(
            "The kubeconfig's user has no credentials. Give a service account's token "
            "(kubectl create token …, or a Secret of the type kubernetes.io/service-account-token) or a client "
            "certificate."
        )
    if not access.token.isascii() or any(character.isspace() for character in access.token):
        _refuse("The token has characters that no bearer token has. Copy it again, without line breaks.")
    return access


class _AliasUsed(yaml.YAMLError):
    pass


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases: kubectl writes none, and with them a small text unfolds to a huge one."""

    def compose_node(self, parent: yaml.nodes.Node | None, index: Any) -> yaml.nodes.Node | None:
        """Raises _AliasUsed."""
        if self.check_event(yaml.events.AliasEvent):
            raise _AliasUsed
        node: yaml.nodes.Node | None = super().compose_node(parent, index)
        return node


def _load(text: str) -> Mapping[str, Any]:
    if not text.strip():
        _refuse("The kubeconfig is empty.")
    if len(text.encode(errors="replace")) > MAX_BYTES:
        _refuse(
            f"The kubeconfig is larger than {MAX_BYTES // 1024} KiB. Keep one context: "
            "kubectl config view --flatten --minify."
        )
    try:
        document = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except _AliasUsed:
        _refuse("The kubeconfig has YAML aliases (*name), which are not taken: kubectl writes none.")
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        _refuse(f"The kubeconfig does not parse as YAML{_place(error)}.")
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config" or "clusters" not in document:
        _refuse("This is not a kubeconfig: it has no clusters. Paste what `kubectl config view --flatten` prints.")
    return document


def _place(error: Exception) -> str:
    """Where it went wrong; never the text there, which may be a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f" (line {error.problem_mark.line + 1})"
    return ""


def _named(document: Mapping[str, Any], group: str, kind: str, name: str) -> Mapping[str, Any]:
    """The entry of that name in one of the three lists."""
    entries = document.get(group)
    known: dict[str, Mapping[str, Any]] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            content = entry.get(kind)
            known.setdefault(entry["name"], content if isinstance(content, dict) else {})
    if name not in known:
        there = ", ".join(sorted(known)[:8]) or "none"
        _refuse(f"The kubeconfig has no {kind} {name!r}. There are: {there}.")
    return known[name]


def _check_files(entry: Mapping[str, Any], kind: str, files: Mapping[str, str]) -> None:
    for name, instead in files.items():
        if entry.get(name):
            _refuse(f"The kubeconfig's {kind} refers to a file ({name}), which is not here. {_FLATTEN} ({instead})")


def _check_user(user: Mapping[str, Any]) -> None:
    if user.get("exec") is not None:
        _refuse(
            "The kubeconfig's user runs a program to get credentials (exec), which is not done here. Make a service "
            "account in the cluster and give its token."
        )
    if user.get("auth-provider") is not None:
        _refuse(
            "The kubeconfig's user signs in through an auth-provider, which Kubernetes itself has given up. Make a "
            "service account in the cluster and give its token."
        )
    if user.get("username") or user.get("password"):
        _refuse("Kubernetes takes no user name and password since 1.19. Give a service account's token.")
    if any(name == "as" or name.startswith("as-") for name in user):
        _refuse("The kubeconfig impersonates somebody (as …). Give the credentials of the account itself.")
    _check_files(user, "user", _FILES_OF_USER)


def _server(cluster: Mapping[str, Any]) -> tuple[str, bool]:
    """The address, and whether it is on this machine."""
    server = _text(cluster, "server", of="cluster")
    try:
        parts = urlsplit(server)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("https", "http") or not host or parts.username or parts.query or parts.fragment:
        _refuse("The cluster's server is not an address such as https://10.0.0.1:6443.")
    is_near = _is_loopback(host)
    if parts.scheme == "http" and not is_near:
        _refuse("The cluster's server is plain http: credentials would travel unprotected. Give its https address.")
    return server.rstrip("/"), is_near


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(entry: Mapping[str, Any], name: str, *, of: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        remedy = " Choose one: kubectl config use-context …" if name == "current-context" else ""
        _refuse(f"The {of} has no {name}.{remedy}")
    return value


def _optional(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        _refuse(f"{name} must be text.")
    return value or ""


def _flag(entry: Mapping[str, Any], name: str) -> bool:
    value = entry.get(name, False)
    if not isinstance(value, bool):
        _refuse(f"{name} must be true or false.")
    return value


def _pem(entry: Mapping[str, Any], name: str) -> bytes:
    """The PEM text that a `…-data` field holds in base 64."""
    try:
        content = base64.b64decode("".join(_optional(entry, name).split()), validate=True)
    except (binascii.Error, ValueError):
        _refuse(f"{name} is not valid base 64.")
    if content and not content.lstrip().startswith(b"-----BEGIN "):
        _refuse(f"{name} is not PEM: it should begin with -----BEGIN.")
    return content


def _refuse(message: str) -> NoReturn:
    raise InvalidInput(message, field="kubeconfig")
