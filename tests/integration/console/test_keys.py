"""API keys on the console: shown once, revoked for good, for admins alone."""

from __future__ import annotations

import re

from freehold.tenancy import services
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.tenancy.selectors import api_key_authenticate
from tests.factories.tenants import SYSTEM
from tests.integration.console.people import Person, sign_in

KEYS = "/console/keys"


def _create(person: Person, **fields: str) -> str:
    """The secret of a new key, as the page shows it."""
    page = person.post(KEYS, **{"name": "web shop", "role": "inference", "expires": "", "form_id": "one", **fields})
    assert page.status == 200, page.text
    found = re.search(r'id="secret"[^>]*>(fh_[\w-]{40})<', page.text)
    assert found
    return found[1]


def test_without_keys_the_page_says_what_one_is_for(admin: Person) -> None:
    assert "No key yet" in admin.get(KEYS).text


def test_a_secret_is_shown_once_and_works(acme: Tenant, admin: Person) -> None:
    secret = _create(admin)
    actor, tenant = api_key_authenticate(secret=secret)
    assert (tenant, actor.role) == (acme, Role.INFERENCE)
    page = admin.get(KEYS).text
    assert "web shop" in page
    assert secret not in page
    assert secret[:9] in page
    assert secret not in str(dict(admin.client.session))


def test_reloading_the_answer_makes_no_second_key(admin: Person) -> None:
    secret = _create(admin)
    again = admin.follow(KEYS, name="web shop", role="inference", expires="", form_id="one")
    assert secret not in again.text
    assert "That key was created already" in again.text
    assert again.text.count(">web shop<") == 1


def test_what_is_wrong_with_a_new_key_is_said_next_to_the_field(admin: Person) -> None:
    page = admin.post(KEYS, name="", role="root", form_id="one")
    assert page.status == 400
    assert "This field is required" in page.text
    assert "root is not one of the available choices" in page.text


def test_a_key_may_expire(admin: Person) -> None:
    _create(admin, expires="30")
    assert "until" in admin.get(KEYS).text


def test_revoking_asks_first_and_then_holds(acme: Tenant, admin: Person) -> None:
    new = services.api_key_create(actor=SYSTEM, tenant_id=acme.pk, name="laptop", role=Role.ADMIN)
    path = f"{KEYS}/{new.key.public_id}/revoke"
    assert "Revoke “laptop”?" in admin.get(path).text
    api_key_authenticate(secret=new.secret)
    done = admin.follow(path)
    assert "The key “laptop” is revoked" in done.text
    assert ">revoked<" in done.text
    assert path not in done.text
    assert admin.get(path).location == KEYS


def test_another_tenants_key_is_neither_listed_nor_revoked(rival: Tenant, admin: Person) -> None:
    new = services.api_key_create(actor=SYSTEM, tenant_id=rival.pk, name="foreign", role=Role.ADMIN)
    assert "foreign" not in admin.get(KEYS).text
    path = f"{KEYS}/{new.key.public_id}/revoke"
    assert admin.get(path).status == admin.post(path).status == 404
    api_key_authenticate(secret=new.secret)


def test_those_who_may_not_manage_keys_see_them_and_nothing_more(acme: Tenant) -> None:
    new = services.api_key_create(actor=SYSTEM, tenant_id=acme.pk, name="laptop", role=Role.ADMIN)
    developer = sign_in("dev@acme.example", (acme, "developer"))
    page = developer.get(KEYS).text
    assert "laptop" in page
    assert "Create a key" not in page
    assert "/revoke" not in page
    assert developer.post(KEYS, name="x", role="inference", form_id="one").status == 403
    assert developer.post(f"{KEYS}/{new.key.public_id}/revoke").status == 403
    api_key_authenticate(secret=new.secret)
