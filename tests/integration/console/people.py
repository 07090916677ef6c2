"""Somebody with a browser: Django's client, and what its pages say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.test import Client

from freehold.tenancy import services
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant, User
from tests.factories.tenants import SYSTEM

PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Page:
    """What came back. `text` is the HTML."""

    status: int
    headers: Any
    text: str

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        return str(self.headers["Location"])


@dataclass(frozen=True)
class Person:
    """A browser with its cookies."""

    client: Client = field(default_factory=Client)

    def get(self, path: str, *, htmx: bool = False) -> Page:
        return _page(self.client.get(path, headers={"HX-Request": "true"} if htmx else {}))

    def post(self, path: str, **fields: str) -> Page:
        return _page(self.client.post(path, fields))

    def follow(self, path: str, **fields: str) -> Page:
        """Posts, and goes where the answer sends."""
        return _page(self.client.post(path, fields, follow=True))


def make_user(email: str, *memberships: tuple[Tenant, str], operator: bool = False) -> User:
    """A user with these roles in these tenants."""
    if operator:
        user = services.operator_create(actor=SYSTEM, email=email, password=PASSWORD)
    else:
        user = services.user_create(actor=SYSTEM, email=email, password=PASSWORD)
    for tenant, role in memberships:
        services.member_add(actor=SYSTEM, tenant=tenant, user=user, role=Role(role))
    return user


def sign_in(email: str, *memberships: tuple[Tenant, str], operator: bool = False) -> Person:
    """A new user, signed in."""
    person = Person()
    person.client.force_login(make_user(email, *memberships, operator=operator))
    return person


def _page(response: Any) -> Page:
    return Page(response.status_code, response.headers, response.content.decode())
