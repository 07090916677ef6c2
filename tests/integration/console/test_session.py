"""Signing in and out, where people land, and the choice of the tenant."""

from __future__ import annotations

import pytest
import redis
from django.test import Client

from freehold.common import clock
from freehold.db.rls import system_scope, tenant_scope
from freehold.tenancy import throttle
from freehold.tenancy.models import Membership, Tenant
from freehold.wire import connection
from tests.integration.console.people import PASSWORD, Person, make_user, sign_in


def test_a_page_asks_to_sign_in_and_leads_back(acme: Tenant) -> None:
    make_user("ada@acme.example", (acme, "admin"))
    person = Person()
    sent = person.get("/console/keys")
    assert (sent.status, sent.location) == (302, "/login?next=/console/keys")
    answer = person.post(sent.location, username="Ada@ACME.example", password=PASSWORD, next="/console/keys")
    assert (answer.status, answer.location) == (302, "/console/keys")
    assert person.get("/console/keys").status == 200


def test_a_wrong_password_says_so_and_signs_nobody_in(acme: Tenant) -> None:
    make_user("ada@acme.example", (acme, "admin"))
    person = Person()
    answer = person.post("/login", username="ada@acme.example", password="wrong")
    assert answer.status == 200
    assert "No account has this address and password" in answer.text
    assert "wrong" not in answer.text
    assert person.get("/console/endpoints").status == 302


def test_signing_in_leads_nowhere_else(acme: Tenant) -> None:
    make_user("ada@acme.example", (acme, "admin"))
    answer = Person().post("/login", username="ada@acme.example", password=PASSWORD, next="https://evil.example/")
    assert answer.location == "/"


def test_signing_out_takes_a_post_and_ends_the_session(admin: Person) -> None:
    assert admin.get("/logout").status == 405
    assert admin.post("/logout").location == "/login"
    assert admin.get("/console/endpoints").status == 302


def test_a_member_lands_on_the_endpoints(admin: Person) -> None:
    assert admin.get("/").location == "/console/endpoints"


def test_a_user_without_a_tenant_is_told_what_to_do(acme: Tenant) -> None:
    person = sign_in("new@acme.example")
    page = person.get("/")
    assert page.status == 200
    assert "You are not a member of a tenant yet" in page.text
    assert person.get("/console/endpoints").location == "/"


def test_an_operator_without_a_tenant_goes_to_the_admin(acme: Tenant) -> None:
    assert sign_in("root@cloud.example", operator=True).get("/").location == "/admin/"


def test_only_operators_are_offered_the_admin(acme: Tenant, admin: Person) -> None:
    operator = sign_in("root@cloud.example", (acme, "viewer"), operator=True)
    assert 'href="/admin/"' in operator.get("/console/endpoints").text
    assert 'href="/admin/"' not in admin.get("/console/endpoints").text


def test_one_of_several_tenants_is_chosen_for_the_session(acme: Tenant, rival: Tenant) -> None:
    person = sign_in("both@acme.example", (acme, "admin"), (rival, "viewer"))
    assert "· Acme ·" in person.get("/console/endpoints").text
    assert person.post("/console/tenant", tenant=rival.public_id).location == "/console/endpoints"
    page = person.get("/console/endpoints").text
    assert "· Rival ·" in page
    assert "(viewer)" in page


def test_a_tenant_that_is_not_ones_own_cannot_be_chosen(admin: Person, rival: Tenant) -> None:
    assert admin.post("/console/tenant", tenant=rival.public_id).status == 404
    assert "· Acme ·" in admin.get("/console/endpoints").text


def test_a_membership_taken_away_ends_at_once(acme: Tenant, rival: Tenant) -> None:
    person = sign_in("both@acme.example", (acme, "viewer"), (rival, "admin"))
    person.post("/console/tenant", tenant=rival.public_id)
    with tenant_scope(rival.pk):
        Membership.objects.filter(tenant=rival).delete()
    assert "· Acme ·" in person.get("/console/endpoints").text


def test_an_inference_member_is_told_which_role_is_needed(acme: Tenant) -> None:
    page = sign_in("app@acme.example", (acme, "inference")).get("/console/endpoints")
    assert page.status == 403
    assert "Ask an admin of the tenant for one of these roles" in page.text


def test_a_part_of_a_page_sends_the_whole_page_to_sign_in(acme: Tenant) -> None:
    answer = Person().get("/console/endpoints/rows", htmx=True)
    assert answer.status == 200
    assert answer.headers["HX-Redirect"] == "/login"


def test_posts_need_a_csrf_token(acme: Tenant) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("ada@acme.example", (acme, "admin")))
    answer = client.post("/console/keys", {"name": "x", "role": "inference", "form_id": "1"})
    assert answer.status_code == 403
    assert "Please try again" in answer.content.decode()


def test_what_breaks_shows_a_page_without_details(acme: Tenant, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr("freehold.serving.selectors.endpoint_list", broken)
    admin.client.raise_request_exception = False
    page = admin.get("/console/endpoints")
    assert page.status == 500
    assert "Something broke on our side" in page.text
    assert "inner secret" not in page.text


@pytest.mark.parametrize("path", ["/login", "/console/endpoints", "/console/endpoints/ep_nope", "/console/keys"])
def test_pages_run_no_script_but_their_own_and_are_not_kept(admin: Person, path: str) -> None:
    page = admin.get(path) if path != "/login" else Person().get(path)
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in page.text
    assert "<style" not in page.text
    assert all("src=" in tag for tag in page.text.split("<script")[1:])
    assert "no-store" in page.headers.get("Cache-Control", "") or page.status == 404


def _suspend(tenant: Tenant) -> None:
    with system_scope("tests suspend a tenant"):
        Tenant.objects.filter(pk=tenant.pk).update(suspended_at=clock.now())


def test_a_suspended_tenants_members_see_that_and_nothing_else(acme: Tenant, rival: Tenant) -> None:
    person = sign_in("both@acme.example", (acme, "admin"), (rival, "viewer"))
    _suspend(acme)
    for path in ("/console/endpoints", "/console/models", "/console/usage", "/console/keys"):
        page = person.get(path)
        assert page.status == 403
        assert "Acme is suspended" in page.text
    assert person.post("/console/keys", name="x", role="admin", form_id="1").status == 403
    assert person.get("/console/endpoints/rows", htmx=True).headers["HX-Redirect"] == "/console/endpoints"
    person.post("/console/tenant", tenant=rival.public_id)
    assert person.get("/console/endpoints").status == 200


@pytest.mark.parametrize("path", ["/login", "/admin/login/"])
def test_passwords_are_guessed_slowly(acme: Tenant, redis_client: redis.Redis, path: str) -> None:
    make_user("ada@acme.example", (acme, "admin"), operator=True)
    make_user("bob@acme.example", (acme, "admin"), operator=True)
    person = Person()
    for _ in range(throttle.ATTEMPTS):
        assert person.post(path, username="ada@acme.example", password="wrong").status == 200
    refused = person.post(path, username=" ADA@acme.example", password=PASSWORD)
    assert refused.status == 429
    assert "Try again in 10 minutes" in refused.text
    assert 0 < int(refused.headers["Retry-After"]) <= throttle.WINDOW_SECONDS
    assert person.post(path, username="bob@acme.example", password=PASSWORD).status == 302


def test_a_right_password_takes_the_wrong_ones_back(acme: Tenant, redis_client: redis.Redis) -> None:
    make_user("ada@acme.example", (acme, "admin"))
    for _ in range(2):
        for _ in range(throttle.ATTEMPTS - 1):
            assert Person().post("/login", username="ada@acme.example", password="wrong").status == 200
        assert Person().post("/login", username="ada@acme.example", password=PASSWORD).status == 302


def test_somebody_signed_in_takes_back_nobody_elses_attempts(acme: Tenant, redis_client: redis.Redis) -> None:
    eve = sign_in("eve@acme.example", (acme, "viewer"))
    for _ in range(throttle.ATTEMPTS):
        Person().post("/login", username="ada@acme.example", password="wrong")
        eve.post("/login", username="ada@acme.example", password="wrong")
    assert Person().post("/login", username="ada@acme.example", password="wrong").status == 429


def test_without_redis_people_still_sign_in(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "client", lambda: redis.Redis(port=1))
    make_user("ada@acme.example", (acme, "admin"))
    assert Person().post("/login", username="ada@acme.example", password=PASSWORD).status == 302
