"""People in front of the console. Whatever needs Django is imported inside the fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from freehold.serving.models import Endpoint
    from freehold.tenancy.models import Tenant
    from tests.integration.console.people import Person


@pytest.fixture
def acme(db: None) -> Tenant:
    """A tenant with a fleet and a model to serve."""
    from tests.factories.tenants import make_fleet, make_revision, make_tenant

    tenant = make_tenant("acme")
    make_fleet(capacity=10)
    make_revision(tenant)
    return tenant


@pytest.fixture
def rival(acme: Tenant) -> Tenant:
    """Another tenant with a model."""
    from tests.factories.tenants import make_revision, make_tenant

    tenant = make_tenant("rival")
    make_revision(tenant)
    return tenant


@pytest.fixture
def chat(acme: Tenant) -> Endpoint:
    """An endpoint of `acme`, just created."""
    from tests.factories.tenants import make_endpoint

    return make_endpoint(acme)


@pytest.fixture
def admin(acme: Tenant) -> Person:
    """An admin of `acme`, signed in."""
    from tests.integration.console.people import sign_in

    return sign_in("ada@acme.example", (acme, "admin"))


@pytest.fixture
def viewer(acme: Tenant) -> Person:
    """A viewer of `acme`, signed in."""
    from tests.integration.console.people import sign_in

    return sign_in("vic@acme.example", (acme, "viewer"))
