"""Two servers of strangers and a client that may reach them."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from freehold.registry.sources.addresses import AddressPolicy
from freehold.registry.sources.guard import guarded_client
from tests.fakes.origin import Origin, origin

ADDRESSES = {"hub.example": "127.0.0.2", "cdn.example": "127.0.0.3", "inside.example": "127.0.0.1"}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """Reaches 127.0.0.2 (hub.example) and 127.0.0.3 (cdn.example), but not 127.0.0.1 (inside.example)."""
    policy = AddressPolicy.parse(["127.0.0.2/32", "127.0.0.3/32"])
    with guarded_client(policy, resolver=lambda host, _: [ADDRESSES[host]], read_seconds=5) as guarded:
        yield guarded


@pytest.fixture
def there() -> Iterator[Origin]:
    """A server at 127.0.0.2."""
    with origin("127.0.0.2") as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Origin]:
    """A server at 127.0.0.3."""
    with origin("127.0.0.3") as running:
        yield running
