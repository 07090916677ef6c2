"""Peers of a NetworkPolicy, with what must never be reached cut out of them. Pure: no Django."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from freehold.fleet.kubernetes_syntax import refuse

Peer = dict[str, Any]  # a NetworkPolicyPeer: ipBlock, namespaceSelector, podSelector

_SELECTORS: Final = {"namespaceSelector", "podSelector"}


def without(peers: Iterable[Peer], blocked: Sequence[str], *, field: str) -> list[Peer]:
    """The peers; every ipBlock that contains a blocked network has it as an `except`.

    Raises InvalidInput naming `field` for what is no peer, no network, or lies within what is blocked.
    """
    return [_without(peer, blocked, field=field) for peer in peers]


def network(text: object, *, field: str) -> IPv4Network | IPv6Network:
    """A network in CIDR notation. Raises InvalidInput naming `field`."""
    try:
        return ip_network(str(text))
    except ValueError as error:
        refuse(f"{error}. Name a network such as 10.0.0.0/8.", field=field)


def _without(peer: Peer, blocked: Sequence[str], *, field: str) -> Peer:
    if peer.keys() == {"ipBlock"}:
        return {"ipBlock": _cut(peer["ipBlock"], blocked, field=field)}
    if not peer or not peer.keys() <= _SELECTORS or not all(isinstance(value, Mapping) for value in peer.values()):
        refuse("a peer is an ipBlock, or a namespaceSelector, a podSelector or both.", field=field)
    return peer


def _cut(block: object, blocked: Sequence[str], *, field: str) -> Peer:
    if not isinstance(block, Mapping) or not {"cidr"} <= block.keys() <= {"cidr", "except"}:
        refuse("an ipBlock has a cidr and may have a list `except`.", field=field)
    whole = network(block["cidr"], field=field)
    holes = [network(text, field=field) for text in block.get("except") or ()]
    for hole in holes:
        if hole == whole or not _within(hole, whole):
            refuse(f"{hole} must lie within {whole} and be smaller.", field=field)
    for text in blocked:
        hole = network(text, field="settings.network.blocked")
        if _within(whole, hole):
            refuse(
                f"{whole} lies within {hole}, which settings.network.blocked closes to every engine. Name a network "
                "outside of it.",
                field=field,
            )
        if _within(hole, whole) and not any(_within(hole, other) for other in holes):
            holes.append(hole)
    return {"cidr": str(whole), **({"except": [str(hole) for hole in holes]} if holes else {})}


def _within(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False
