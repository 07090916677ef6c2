"""A kubeconfig is read with suspicion: what it may hold, and why the rest is refused."""

from __future__ import annotations

import base64
import copy
import time
from typing import Any

import pytest
import yaml

from freehold.common.errors import InvalidInput
from freehold.fleet.kubeconfig import MAX_BYTES, parse

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DATA = base64.b64encode(PEM.encode()).decode()


def kubeconfig(
    *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    """Two contexts, of which `fra` is the current one; `None` takes a field away."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fra",
        "contexts": [
            {"name": "fra", "context": {"cluster": "fra", "user": "freehold"}},
            {"name": "ams", "context": {"cluster": "gone", "user": "nobody"}},
        ],
        "clusters": [
            {
                "name": "fra",
                "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority-data": DATA, **(cluster or {})},
            }
        ],
        "users": [{"name": "freehold", "user": {"token": "s3cret", **(user or {})}}],
        **top,
    }
    for group, kind in (("clusters", "cluster"), ("users", "user")):
        entry = document[group][0][kind] if document[group] else {}
        for name in [name for name, value in entry.items() if value is None]:
            del entry[name]
    return {name: value for name, value in document.items() if value is not None}


def refused(document: dict[str, Any] | str) -> str:
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.field == "kubeconfig"
    return caught.value.message


def test_the_current_context_is_taken_with_its_server_and_token() -> None:
    access = parse(yaml.safe_dump(kubeconfig()))
    assert (access.server, access.token, access.verify) == ("https://10.0.0.1:6443", "s3cret", True)
    assert access.ca == PEM.encode()


def test_client_certificates_and_a_servers_other_name_are_taken() -> None:
    document = kubeconfig(
        user={"token": None, "client-certificate-data": DATA, "client-key-data": DATA},
        cluster={"tls-server-name": "kubernetes.example"},
    )
    access = parse(yaml.safe_dump(document))
    assert (access.client_certificate, access.client_key) == (PEM.encode(), PEM.encode())
    assert (access.token, access.tls_server_name) == ("", "kubernetes.example")


def test_secrets_are_in_no_representation() -> None:
    access = parse(yaml.safe_dump(kubeconfig(user={"client-certificate-data": DATA, "client-key-data": DATA})))
    assert "s3cret" not in repr(access)
    assert "BEGIN" not in repr(access)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"current-context": None}, "no current-context"),
        ({"current-context": "lon"}, "no context 'lon'. There are: ams, fra"),
        ({"current-context": "ams"}, "no cluster 'gone'"),
        ({"users": []}, "no user 'freehold'"),
        ({"contexts": "fra"}, "no context 'fra'"),
        ({"kind": "Pod"}, "not a kubeconfig"),
        ({"clusters": None}, "not a kubeconfig"),
        ({"user": {"exec": {"command": "aws"}}}, "runs a program"),
        ({"user": {"exec": {}}}, "runs a program"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider"),
        ({"user": {"username": "admin", "password": "x"}}, "user name and password"),
        ({"user": {"as": "root"}}, "impersonates"),
        ({"user": {"as-groups": ["system:masters"]}}, "impersonates"),
        ({"user": {"tokenFile": "/var/run/token"}}, "--flatten --minify. (token)"),
        ({"user": {"client-certificate": "a.crt"}}, "--flatten --minify"),
        ({"user": {"client-key": "a.key"}}, "--flatten --minify"),
        ({"cluster": {"certificate-authority": "ca.crt"}}, "(certificate-authority-data)"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "insecure-skip-tls-verify"),
        ({"cluster": {"insecure-skip-tls-verify": "yes"}}, "true or false"),
        ({"cluster": {"server": "http://10.0.0.1:8080"}}, "plain http"),
        ({"cluster": {"server": "file:///etc/passwd"}}, "not an address"),
        ({"cluster": {"server": "https://user:pw@10.0.0.1"}}, "not an address"),
        ({"cluster": {"server": "https://10.0.0.1:99999"}}, "not an address"),
        ({"cluster": {"server": "https://[::1"}}, "not an address"),
        ({"cluster": {"server": 1}}, "no server"),
        ({"cluster": {"proxy-url": "http://proxy:3128"}}, "proxy"),
        ({"cluster": {"certificate-authority-data": "%%%"}}, "base 64"),
        ({"cluster": {"certificate-authority-data": base64.b64encode(b"x").decode()}}, "not PEM"),
        ({"user": {"client-certificate-data": DATA}}, "belong together"),
        ({"user": {"token": None}}, "no credentials"),
        ({"user": {"token": ["x"]}}, "must be text"),
        ({"user": {"token": "two\nlines"}}, "without line breaks"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_reason(change: dict[str, Any], words: str) -> None:
    assert words in refused(kubeconfig(**copy.deepcopy(change)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_this_machine_plain_http_and_unverified_certificates_are_taken(host: str) -> None:
    plain = kubeconfig(cluster={"server": f"http://{host}:8080", "certificate-authority-data": None})
    assert parse(yaml.safe_dump(plain)).server == f"http://{host}:8080"
    unverified = kubeconfig(cluster={"server": f"https://{host}:6443", "insecure-skip-tls-verify": True})
    assert not parse(yaml.safe_dump(unverified)).verify


@pytest.mark.parametrize(
    "text", ["", "  \n", "{", "\t- x", "- a\n- b", "just words", "a: b", "clusters: [", "!!python/object:os.system {}"]
)
def test_what_is_no_kubeconfig_is_refused(text: str) -> None:
    assert "kubeconfig" in refused(text)


def test_the_text_of_a_broken_kubeconfig_is_not_repeated() -> None:
    message = refused("users:\n  - token: s3cret\n bad")
    assert "s3cret" not in message
    assert "line" in message


def test_a_yaml_bomb_is_refused_at_once() -> None:
    levels = ["l0: &l0 [x,x,x,x,x,x,x,x,x]"]
    levels += [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    started = time.monotonic()
    assert "aliases" in refused("\n".join(levels))
    assert time.monotonic() - started < 1


def test_a_deep_one_and_a_large_one_are_refused() -> None:
    assert "parse" in refused("[" * 5000 + "]" * 5000)
    assert "larger than 256 KiB" in refused("x" * (MAX_BYTES + 1))
