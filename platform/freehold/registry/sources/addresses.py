"""Which hosts and addresses an import may reach: public unicast, and what the operator allows besides. Pure.

Without this, a customer could have the platform fetch http://169.254.169.254/ (credentials of the machine), a database
or a neighbour's service, from inside the operator's network (server-side request forgery). Used by guard.py.

The tables are IANA's special-purpose registries (RFC 6890 and its updates), written out because what Python's
`is_global` says changes from one patch release to the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from freehold.common.errors import InvalidInput
from freehold.registry.sources.errors import ALLOW_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Never, whatever the operator allows: nothing a model is imported from lives here, but every cloud's metadata does.
_NEVER: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # "this" network; Linux takes 0.0.0.0 for itself
            "169.254.0.0/16",  # link-local, metadata of most clouds
            "168.63.129.16/32",  # Azure's host
            "100.100.100.200/32",  # Alibaba's metadata
            "224.0.0.0/4",  # multicast
            "255.255.255.255/32",
            "::/128",
            "fe80::/10",  # link-local
            "fec0::/10",  # site-local, deprecated
            "ff00::/8",  # multicast
            "192.0.0.192/32",  # Oracle's metadata
            "fd00:ec2::254/128",  # AWS's metadata over IPv6
            "fd20:ce::254/128",  # Google's
            "fd00:42::42/128",  # Scaleway's
        ),
    )
)
_SPECIAL: Final = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",  # RFC 1918
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "172.16.0.0/12",
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, deprecated
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "240.0.0.0/4",  # reserved
            "2001::/23",  # IETF protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: holds an IPv4 address, deprecated
            "3fff::/20",  # documentation
        ),
    )
)
_GLOBAL_6: Final = ip_network("2000::/3")  # the only IPv6 handed out so far; all the rest is special or unassigned
_NAT64: Final = ip_network("64:ff9b::/96")  # how a network without IPv4 reaches it (RFC 6052): the last 32 bits count

_NAME = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")


class Standing(StrEnum):
    """What an address is to us."""

    PUBLIC = "public"
    ALLOWED = "allowed"
    REFUSED = "refused"
    NEVER = "never"


@dataclass(frozen=True)
class AddressPolicy:
    """What may be reached besides public addresses.

    Attributes:
        allow: networks; host names ("minio.internal"), which then may resolve to any address that is not refused for
            good; and domains with all names below them ("*.internal").
    """

    allow: tuple[Network | str, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> AddressPolicy:
        """From configuration. Raises InvalidInput, naming the entry, for what is neither a network nor a name."""
        return cls(tuple(_entry(entry.strip().lower()) for entry in entries if entry.strip()))

    def allows_host(self, host: str) -> bool:
        """Whether the operator allows this name, whatever it resolves to."""
        return any(isinstance(entry, str) and _covers(entry, host.lower()) for entry in self.allow)

    def standing(self, host: str, address: Address) -> Standing:
        """What `address`, to which `host` resolved, is to us."""
        real = _embedded(address)
        if _within(real, _NEVER) or _within(address, _NEVER):
            return Standing.NEVER
        networks = [entry for entry in self.allow if not isinstance(entry, str)]
        if self.allows_host(host) or _within(real, networks):
            return Standing.ALLOWED
        return Standing.PUBLIC if _is_public(real) else Standing.REFUSED


def host_problem(host: str) -> str | None:
    """Why a URL's host (lower case, after IDNA, without brackets) is not taken, reading on from it, or None.

    Only names and canonical addresses: what resolvers read as an address besides (127.1, 0x7f.1, 2130706433,
    0177.0.0.1) is how a loopback is smuggled past a check.
    """
    if not host:
        return "is empty"
    if "%" in host:
        return "holds a percent sign: zones and escapes are not taken in a host"
    if ":" in host:
        return None if literal(host) else "is no IPv6 address"
    if host.endswith("."):
        return "ends with a dot: write the name without it"
    if not _NAME.fullmatch(host):
        return "is no host name"
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and literal(host) is None:
        return "is an address in an unusual spelling: write it as four decimal numbers"
    return None


def literal(host: str) -> Address | None:
    """The address a host is by itself, or None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _entry(text: str) -> Network | str:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        pass
    if host_problem(text.removeprefix("*.")) is None:
        return text
    raise InvalidInput(
        f"{ALLOW_VARIABLE} holds {text!r}, which is neither a network (10.0.0.0/8), nor a host (minio.internal), nor a "
        "domain (*.internal).",
        field=ALLOW_VARIABLE,
    )


def _covers(entry: str, host: str) -> bool:
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry


def _embedded(address: Address) -> Address:
    """The IPv4 address that packets to an IPv6 one really go to, where that is so."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):  # the second: "compatible", deprecated
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_6:
        return False
    return not _within(address, _SPECIAL)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
