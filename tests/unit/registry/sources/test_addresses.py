"""Which addresses and hosts are reached."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from freehold.common.errors import InvalidInput
from freehold.registry.sources.addresses import AddressPolicy, Standing, host_problem

NOBODY = AddressPolicy()


def standing(address: str, *, policy: AddressPolicy = NOBODY, host: str = "example.org") -> Standing:
    return policy.standing(host, ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "99.84.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.254",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_public_addresses_are_reached(address: str) -> None:
    assert standing(address) is Standing.PUBLIC


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "240.0.0.1",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "2001:2::1",
        "2001:0:7f00:1::",  # Teredo
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2002:0808:0808::",  # 6to4 of a public one: nobody honest lives there any more
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::7f00:1",  # "compatible"
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "5f00::1",
        "4000::1",
    ],
)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert standing(address) is Standing.REFUSED


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - not bound to
        "0.1.2.3",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:42::42",
        "192.0.0.192",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_metadata_and_the_like_cannot_even_be_allowed(address: str) -> None:
    everything = AddressPolicy.parse(["0.0.0.0/0", "::/0", "example.org"])
    assert standing(address, policy=everything) is Standing.NEVER


def test_an_operator_allows_networks_hosts_and_domains() -> None:
    policy = AddressPolicy.parse(["10.1.0.0/16", "fd12::/16", " MinIO.internal ", "*.corp.example", ""])
    assert standing("10.1.2.3", policy=policy) is Standing.ALLOWED
    assert standing("::ffff:10.1.2.3", policy=policy) is Standing.ALLOWED
    assert standing("10.2.0.1", policy=policy) is Standing.REFUSED
    assert standing("fd12::1", policy=policy) is Standing.ALLOWED
    assert standing("192.168.0.9", policy=policy, host="minio.internal") is Standing.ALLOWED
    assert standing("192.168.0.9", policy=policy, host="hub.corp.example") is Standing.ALLOWED
    assert standing("192.168.0.9", policy=policy, host="corp.example") is Standing.REFUSED
    assert standing("192.168.0.9", policy=policy, host="evilcorp.example") is Standing.REFUSED
    assert standing("192.168.0.9", policy=policy, host="minio.internal.evil.example") is Standing.REFUSED


def test_allowing_ipv6_as_a_whole_does_not_allow_what_it_embeds() -> None:
    policy = AddressPolicy.parse(["::/0"])
    assert standing("64:ff9b::7f00:1", policy=policy) is Standing.REFUSED
    assert standing("::ffff:127.0.0.1", policy=policy) is Standing.REFUSED


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "http://minio", "minio:9000", "a b", "*", "*.", "127.1"])
def test_an_entry_that_is_nothing_is_named(entry: str) -> None:
    with pytest.raises(InvalidInput, match="IMPORT_ALLOW holds"):
        AddressPolicy.parse([entry])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "256.1.1.1",
        "example.com.",
        "127.0.0.1.",
        "fe80::1%eth0",
        "::1%25lo",
        "%31%32%37.0.0.1",
        "a..b",
        "-a.example",
        "a b",
        "user@host",
        "::zz",
        "a" * 64 + ".example",
    ],
)
def test_disguised_and_malformed_hosts_are_refused(host: str) -> None:
    assert host_problem(host) is not None


@pytest.mark.parametrize(
    "host",
    ["huggingface.co", "localhost", "8.8.8.8", "::1", "xn--bcher-kva.example", "my_hub.example", "3m.example", "1.a"],
)
def test_ordinary_hosts_are_taken(host: str) -> None:
    assert host_problem(host) is None
