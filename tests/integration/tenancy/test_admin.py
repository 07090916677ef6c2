"""The operator's admin: every page renders for an operator and for nobody else; what it writes is audited."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from freehold.audit.models import AuditEvent
from freehold.audit.services import first_broken
from freehold.billing.models import Price, PriceBook
from freehold.db.rls import system_scope
from freehold.fleet.cluster_settings import ClusterSettings
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Region
from freehold.fleet.observations import cluster_get_for_work
from freehold.serving.models import Endpoint
from freehold.tenancy.models import ApiKey, Tenant
from freehold.tenancy.services import operator_create, user_create
from tests.factories.clusters import DIGEST, KUBECONFIG, gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM, make_endpoint, make_fleet, make_revision, make_tenant

PASSWORD = "correct horse battery"

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


def page(model: type[Model], view: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=arguments)


@pytest.fixture
def operator(db: None) -> Client:
    """A browser in which an operator has signed in."""
    user = operator_create(actor=SYSTEM, email="op@example.com", password=PASSWORD)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def stranger(db: None) -> Client:
    """A browser in which somebody else has."""
    user = user_create(actor=SYSTEM, email="dev@example.com", password=PASSWORD)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def served(db: None) -> Endpoint:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    return make_endpoint(tenant)


def last_action() -> str:
    with system_scope("a test reads the platform's audit trail"):
        assert first_broken(tenant_id=None) is None
        event = AuditEvent.objects.filter(tenant_id=None).latest("sequence")
        assert event.actor_label == "op@example.com"
        return event.action


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_list_renders_and_searches_for_an_operator(
    operator: Client, served: Endpoint, model: type[Model]
) -> None:
    assert operator.get(page(model, "changelist")).status_code == 200
    assert operator.get(page(model, "changelist"), {"q": "acme"}).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_no_list_opens_for_anybody_else(stranger: Client, model: type[Model]) -> None:
    for client in (stranger, Client()):
        answer = client.get(page(model, "changelist"))
        assert answer.status_code == 302
        assert "/admin/login/" in answer.headers["Location"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_object_that_is_there_opens(operator: Client, served: Endpoint, model: type[Model]) -> None:
    with system_scope("a test looks for something to open"):
        found = model._default_manager.first()
    if found is not None:
        assert operator.get(page(model, "change", found.pk)).status_code == 200


def test_the_list_shows_every_tenant(operator: Client, served: Endpoint) -> None:
    make_tenant("rival")
    text = operator.get(page(Tenant, "changelist")).content.decode()
    assert "acme" in text
    assert "rival" in text


def test_tables_of_tenants_cannot_be_written(operator: Client, served: Endpoint) -> None:
    assert operator.get(page(Endpoint, "add")).status_code == 403
    assert operator.post(page(Endpoint, "change", served.pk), {"name": "mine"}).status_code == 403
    assert operator.post(page(Endpoint, "delete", served.pk), {"post": "yes"}).status_code == 403
    with system_scope("a test reads what the admin may have changed"):
        assert Endpoint.objects.get().name == "chat"


def test_the_hash_of_a_key_is_not_shown(operator: Client, served: Endpoint) -> None:
    from tests.integration.api.client import api_of

    api_of(served.tenant)
    with system_scope("a test reads a key"):
        key = ApiKey.objects.get()
    assert key.secret_sha256 not in operator.get(page(ApiKey, "change", key.pk)).content.decode()


def test_a_tenant_is_added_through_its_service(operator: Client) -> None:
    assert operator.post(page(Tenant, "add"), {"slug": "newco", "name": "New Co"}).status_code == 302
    with system_scope("a test reads what the admin made"):
        tenant = Tenant.objects.get(slug="newco")
        assert AuditEvent.objects.get(tenant_id=tenant.pk).action == "tenant.create"


def test_what_a_service_refuses_is_shown_on_the_page(operator: Client) -> None:
    answer = operator.post(page(Tenant, "add"), {"slug": "admin", "name": "x"}, follow=True)
    assert answer.status_code == 200
    assert "is reserved" in answer.content.decode()
    with system_scope("a test reads what the admin did not make"):
        assert not Tenant.objects.exists()


def test_the_fleet_is_added_and_changed_with_an_event_each(operator: Client, db: None) -> None:
    operator.post(page(Region, "add"), {"name": "eu-north", "display_name": "North"})
    assert last_action() == "region.create"
    region = Region.objects.get()
    operator.post(page(Region, "change", region.pk), {"display_name": "Far north"})
    assert last_action() == "region.update"

    operator.post(
        page(Cluster, "add"), {"region": region.pk, "name": "c1", "runtime": "local", "engine_digest": "sha256:1"}
    )
    assert last_action() == "cluster.register"
    cluster = Cluster.objects.get()
    assert cluster.enabled
    operator.post(page(Cluster, "change", cluster.pk), {"engine_digest": "sha256:2", "enabled": ""})
    assert last_action() == "cluster.update"
    cluster.refresh_from_db()
    assert (cluster.engine_digest, cluster.enabled) == ("sha256:2", False)

    operator.post(
        page(GpuFlavor, "add"),
        {"name": "h200", "accelerator": "H200", "accelerators": 1, "memory_bytes": 141, "kv_cache_bytes": 0},
    )
    assert last_action() == "flavor.create"
    flavor = GpuFlavor.objects.get()
    operator.post(page(NodePool, "add"), {"cluster": cluster.pk, "flavor": flavor.pk, "capacity": 4})
    assert last_action() == "node_pool.set"
    pool = NodePool.objects.get()
    operator.post(page(NodePool, "change", pool.pk), {"capacity": 2})
    assert last_action() == "node_pool.update"
    operator.post(page(NodePool, "delete", pool.pk), {"post": "yes"})
    assert last_action() == "node_pool.delete"
    assert not NodePool.objects.exists()


def test_what_endpoints_are_billed_by_stays_as_it_is(operator: Client, served: Endpoint) -> None:
    flavor = GpuFlavor.objects.get()
    operator.post(page(GpuFlavor, "change", flavor.pk), {"accelerators": 8, "name": "other"})
    flavor.refresh_from_db()
    assert (flavor.accelerators, flavor.name) == (1, "cpu-local")


def test_several_are_deleted_with_an_event_each(operator: Client, db: None) -> None:
    for name in ("a", "b"):
        operator.post(page(Region, "add"), {"name": name})
    chosen = [str(key) for key in Region.objects.values_list("pk", flat=True)]
    operator.post(page(Region, "changelist"), {"action": "delete_selected", "_selected_action": chosen, "post": "yes"})
    with system_scope("a test reads the platform's audit trail"):
        assert AuditEvent.objects.filter(action="region.delete").count() == 2


def test_prices_are_published_as_the_next_book(operator: Client, db: None) -> None:
    prices = "prompt_tokens, *, 2000000000\ncompletion_tokens, acme/chat, 6000000000\naccelerator_seconds, h200, 3"
    book = {"name": "list", "currency": "EUR", "valid_from_0": "", "valid_from": "", "prices": prices}
    assert operator.post(page(PriceBook, "add"), book).status_code == 302
    assert last_action() == "price_book.publish"
    assert PriceBook.objects.get().version == 1
    assert {(price.meter, price.model, price.flavor, price.nanos) for price in Price.objects.all()} == {
        ("prompt_tokens", "", "", 2_000_000_000),
        ("completion_tokens", "acme/chat", "", 6_000_000_000),
        ("accelerator_seconds", "", "h200", 3),
    }
    form = operator.get(page(PriceBook, "add")).content.decode()
    assert "completion_tokens, acme/chat, 6000000000" in form
    shown = operator.get(page(PriceBook, "change", PriceBook.objects.get().pk)).content.decode()
    assert "6000000000" in shown.replace(",", "")


@pytest.mark.parametrize(
    ("prices", "complaint"),
    [
        ("prompt_tokens 1", "Line 1: write meter"),
        ("prompt_tokens, *, 1\nwater, *, 1", "Line 2: there is no meter"),
        ("prompt_tokens, *, 1.5", "Line 1: nanos are a whole number"),
        ("prompt_tokens, *, -1", "Line 1: nanos are a whole number"),
    ],
)
def test_bad_prices_name_the_line(operator: Client, prices: str, complaint: str) -> None:
    answer = operator.post(page(PriceBook, "add"), {"name": "x", "currency": "EUR", "prices": prices})
    assert answer.status_code == 200
    assert complaint in answer.content.decode()
    assert not PriceBook.objects.exists()


def test_two_prices_for_one_thing_are_refused_by_the_service(operator: Client) -> None:
    prices = "prompt_tokens, *, 1\nprompt_tokens, *, 2"
    answer = operator.post(page(PriceBook, "add"), {"name": "x", "currency": "EUR", "prices": prices}, follow=True)
    assert "two prices" in answer.content.decode()
    assert not PriceBook.objects.exists()


def test_a_kubeconfig_goes_into_the_admin_and_never_comes_out(operator: Client, db: None) -> None:
    operator.post(page(Region, "add"), {"name": "eu-central"})
    form = {
        "region": Region.objects.get().pk,
        "name": "fra-1",
        "runtime": "kubernetes",
        "engine_digest": DIGEST,
        "settings": '{"user_id": 1000}',
    }
    for kubeconfig, complaint in (("", "empty"), ("nonsense", "not a kubeconfig")):
        answer = operator.post(page(Cluster, "add"), {**form, "kubeconfig": kubeconfig}, follow=True)
        assert complaint in answer.content.decode()
    refused = operator.post(page(Cluster, "add"), {**form, "kubeconfig": KUBECONFIG, "settings": '{"usr_id": 1}'})
    assert "usr_id" in refused.content.decode()
    assert not Cluster.objects.exists()

    assert operator.post(page(Cluster, "add"), {**form, "kubeconfig": KUBECONFIG}).status_code == 302
    assert last_action() == "cluster.register"
    cluster = Cluster.objects.get()
    assert (cluster.access, cluster.settings) == ("kubeconfig", {"user_id": 1000})
    observe(cluster, gpu_node("a"))
    shown = operator.get(page(Cluster, "change", cluster.pk)).content.decode()
    assert "Kubernetes v1.36.2 answers." in shown
    assert "a-very-secret-token" not in shown

    change = {"engine_digest": DIGEST, "enabled": "on", "settings": "{}"}
    operator.post(page(Cluster, "change", cluster.pk), {**change, "kubeconfig": ""})
    assert cluster_get_for_work(cluster_id=cluster.pk).settings.user_id == ClusterSettings().user_id
    with system_scope("a test reads the platform's audit trail"):
        assert AuditEvent.objects.filter(tenant_id=None).latest("sequence").detail == {"settings": "changed"}
    operator.post(page(Cluster, "change", cluster.pk), {**change, "kubeconfig": KUBECONFIG.replace("very", "quite")})
    credentials = cluster_get_for_work(cluster_id=cluster.pk).credentials
    assert credentials is not None
    assert credentials.token == "a-quite-secret-token"
    with system_scope("a test reads the platform's audit trail"):
        assert "secret" not in str(list(AuditEvent.objects.values_list("detail", flat=True)))


def test_a_pools_cost_and_capacity_are_the_operators(operator: Client, db: None) -> None:
    cluster = observe(make_cluster(), gpu_node("a", 1))
    pool = NodePool.objects.get()
    form = {"capacity": 1, "discovered": "on", "cost_nanos_per_accelerator_hour": 900}
    operator.post(page(NodePool, "change", pool.pk), form)
    observe(cluster)
    pool.refresh_from_db()
    assert (pool.cost_nanos_per_accelerator_hour, pool.discovered, pool.capacity) == (900, True, 0)
    operator.post(page(NodePool, "change", pool.pk), {**form, "capacity": 5})
    pool.refresh_from_db()
    assert (pool.discovered, pool.capacity) == (False, 5)


def test_a_tenants_residency_policy_is_set_with_an_event(operator: Client, db: None) -> None:
    tenant = make_tenant()
    operator.post(page(Tenant, "change", tenant.pk), {"regions_allowed": "eu-north, eu-central"})
    with system_scope("a test reads what the admin changed"):
        tenant.refresh_from_db()
        event = AuditEvent.objects.filter(tenant_id=tenant.pk).latest("sequence")
    assert tenant.regions_allowed == ["eu-central", "eu-north"]
    assert (event.action, event.detail["to"]) == ("tenant.residency_set", ["eu-central", "eu-north"])
    assert "eu-central, eu-north" in operator.get(page(Tenant, "change", tenant.pk)).content.decode()
    wrong = operator.post(page(Tenant, "change", tenant.pk), {"regions_allowed": "eu/north"}, follow=True)
    assert "No region can be called" in wrong.content.decode()
    with system_scope("a test reads what the admin changed"):
        tenant.refresh_from_db()
    assert (tenant.slug, tenant.regions_allowed) == ("acme", ["eu-central", "eu-north"])
