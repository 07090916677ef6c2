"""Clients of the REST API that hold real keys. Whatever needs Django is imported inside the fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from freehold.tenancy.models import Tenant
    from tests.integration.api.client import Api


@pytest.fixture
def acme(db: None) -> Tenant:
    """A tenant."""
    from tests.factories.tenants import make_tenant

    return make_tenant("acme")


@pytest.fixture
def rival(acme: Tenant) -> Tenant:
    """Another tenant."""
    from tests.factories.tenants import make_tenant

    return make_tenant("rival")


@pytest.fixture
def api(acme: Tenant) -> Api:
    """An admin's key of `acme`."""
    from tests.integration.api.client import api_of

    return api_of(acme)


@pytest.fixture
def rival_api(rival: Tenant) -> Api:
    """An admin's key of `rival`."""
    from tests.integration.api.client import api_of

    return api_of(rival)


@pytest.fixture
def served(acme: Tenant) -> Tenant:
    """`acme` with the model `acme/tiny` and a fleet to serve it on."""
    from tests.factories.tenants import make_fleet, make_revision

    make_fleet(capacity=10)
    make_revision(acme)
    return acme
