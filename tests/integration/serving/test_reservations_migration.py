"""Endpoints that were there before reservations have one afterwards."""

from __future__ import annotations

import importlib

import pytest
from django.apps import apps
from django.db import connection

from freehold.fleet.models import Reservation
from tests.factories.tenants import make_endpoint, make_fleet, make_revision, make_tenant


@pytest.mark.django_db
def test_every_endpoint_is_given_the_room_that_it_has() -> None:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    made = {make_endpoint(tenant, name, replicas=count).public_id: count for name, count in (("a", 2), ("b", 0))}
    Reservation.objects.all().delete()
    migration = importlib.import_module("freehold.serving.migrations.0004_reservations")
    with connection.schema_editor() as editor:
        migration._fill(apps, editor)
        migration._fill(apps, editor)
    assert dict(Reservation.objects.values_list("holder", "replicas")) == made
