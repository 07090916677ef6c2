"""The form “New endpoint”: what can be chosen, trying the placement out, and what is refused."""

from __future__ import annotations

import pytest

from freehold.db.rls import tenant_scope
from freehold.fleet.models import NodePool
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import tenant_residency_set
from tests.factories.clusters import gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM
from tests.integration.console.people import Person, sign_in

NEW = "/console/endpoints/new"
ASKED = {"model": "tiny", "revision": "main", "name": "chat", "replicas": "1", "billing_mode": "tokens"}


def made(tenant: Tenant) -> list[Endpoint]:
    with tenant_scope(tenant.pk):
        return list(Endpoint.objects.select_related("cluster"))


def test_a_model_leads_to_the_form_filled_in(acme: Tenant, admin: Person) -> None:
    assert NEW in admin.get("/console/endpoints").text
    page = admin.get(f"{NEW}?model=Tiny_Chat&revision=v1").text
    assert 'value="Tiny_Chat"' in page
    assert 'value="v1"' in page
    assert 'value="tiny-chat"' in page


def test_an_endpoint_is_created_where_it_was_asked_for(acme: Tenant, admin: Person) -> None:
    observe(make_cluster(), gpu_node("a"))
    answer = admin.post(NEW, **ASKED, region="eu-central", flavor="h100-80gb-hbm3-2x", max_model_len="1024")
    (endpoint,) = made(acme)
    assert (answer.status, answer.location) == (302, f"/console/endpoints/{endpoint.public_id}")
    assert endpoint.cluster.name == "fra-1"
    assert "is being started" in admin.get(answer.location).text


def test_flavors_say_what_they_are_and_what_is_free(acme: Tenant, admin: Person) -> None:
    observe(make_cluster(), gpu_node("a", 1))
    page = admin.get(NEW).text
    assert "h100-80gb-hbm3-1x: 1 × NVIDIA-H100-80GB-HBM3 of 80 GiB; free: 1 in eu-central" in page
    assert "cpu-local: 1 × cpu; free: 10 in local" in page


def test_trying_the_placement_out_shows_every_pool_and_creates_nothing(acme: Tenant, admin: Person) -> None:
    observe(make_cluster(), gpu_node("a", 1))
    page = admin.post(NEW, **{**ASKED, "replicas": "2"}, **{"try": "1"})
    assert page.status == 200
    assert "In local, on cpu-local. Nothing has been created yet." in page.text
    assert "There is room for 1 replica, 2 replicas are asked for." in page.text
    assert 'value="chat"' in page.text, "what was typed stays"
    assert made(acme) == []


def test_that_there_is_no_room_is_said_with_the_reason(acme: Tenant, admin: Person) -> None:
    NodePool.objects.update(capacity=0)
    page = admin.post(NEW, **ASKED, **{"try": "1"}).text
    assert "Nowhere at the moment: No cluster can hold 1 replica. All of it is in use." in page
    refused = admin.post(NEW, **ASKED)
    assert refused.status == 400
    assert "All of it is in use." in refused.text
    assert made(acme) == []


def test_only_regions_that_the_tenant_may_use_are_offered(acme: Tenant, admin: Person) -> None:
    observe(make_cluster(), gpu_node("a"))
    tenant_residency_set(actor=SYSTEM, tenant_id=acme.pk, regions=["local"])
    assert "eu-central" not in admin.get(NEW).text
    assert admin.post(NEW, **ASKED, region="eu-central").status == 400


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"name": "No Good"}, 400, "lower-case"),
        ({"model": "none"}, 404, "There is no model named"),
        ({"revision": "v9"}, 404, "no branch, tag or commit"),
        ({"replicas": "65"}, 400, "64"),
        ({"replicas": ""}, 400, "required"),
        ({"flavor": "b300"}, 400, "not one of the available choices"),
    ],
)
def test_what_is_refused_is_shown_in_the_form(
    acme: Tenant, admin: Person, change: dict[str, str], status: int, words: str
) -> None:
    answer = admin.post(NEW, **{**ASKED, **change})
    assert answer.status == status
    assert words in answer.text
    assert made(acme) == []


def test_another_tenants_model_is_as_missing_as_none(acme: Tenant, rival: Tenant, admin: Person) -> None:
    assert admin.post(NEW, **{**ASKED, "model": "rival/tiny"}).status == 404


def test_who_may_not_create_is_not_led_there(acme: Tenant, viewer: Person) -> None:
    assert NEW not in viewer.get("/console/endpoints").text
    assert viewer.get(NEW).status == 403
    assert viewer.post(NEW, **ASKED).status == 403
    assert sign_in("dev@acme.example", (acme, "developer")).get(NEW).status == 200
