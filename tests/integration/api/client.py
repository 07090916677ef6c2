"""A client of the REST API: Django's, with a key and with JSON both ways."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.test import Client

from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import api_key_create
from tests.factories.tenants import SYSTEM

ROOT = "/api/v1"
_SHARED = Client()  # middleware is loaded once a client, and WhiteNoise looks at every static file then


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: Any

    @property
    def problem(self) -> tuple[int, str, str | None]:
        """Status, code and field of a problem; fails for an answer that is none."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        assert self.body["status"] == self.status
        assert self.body["type"] == f"urn:freehold:problem:{self.body['code']}"
        assert self.body["title"]
        assert self.body["detail"]
        assert self.body["request_id"] == self.headers["X-Request-Id"]
        return self.status, self.body["code"], self.body.get("field")


@dataclass(frozen=True)
class Api:
    """Calls the API with one key."""

    secret: str | None
    client: Client = _SHARED

    def get(self, path: str, **query: Any) -> Answer:
        return self.call("get", path, query)

    def post(self, path: str, body: Any, *, key: str | None = None) -> Answer:
        return self.call("post", path, body, **({} if key is None else {"Idempotency-Key": key}))

    def patch(self, path: str, body: Any) -> Answer:
        return self.call("patch", path, body)

    def delete(self, path: str) -> Answer:
        return self.call("delete", path, None)

    def call(self, method: str, path: str, body: Any, **headers: str) -> Answer:
        if self.secret is not None:
            headers["Authorization"] = f"Bearer {self.secret}"
        content: dict[str, Any] = {"query_params": body}
        if method != "get":
            content = {"data": json.dumps(body), "content_type": "application/json"}
        response = getattr(self.client, method)(ROOT + path, headers=headers, **content)
        return Answer(response.status_code, response.headers, response.json() if response.content else None)


def api_of(tenant: Tenant, role: Role = Role.ADMIN) -> Api:
    """A client with a new key of the tenant."""
    new = api_key_create(actor=SYSTEM, tenant_id=tenant.pk, name=f"test {role.value}", role=role)
    return Api(new.secret)
