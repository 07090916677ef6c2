"""Lets the demo tenant pay in advance, or by invoice again, as an operator would: `python -m tests.e2e.prepaid on|off`.
A process of its own, because it needs the installation's settings."""

from __future__ import annotations

import os
import sys

import django

from freehold.onebox.credentials import Credentials
from freehold.onebox.demo import TENANT
from freehold.onebox.environment import environment
from freehold.onebox.layout import Layout

_layout = Layout.of()
os.environ.update(environment(_layout, Credentials.of(_layout.secrets)))
django.setup(set_prefix=False)

from freehold.billing.services import account_set  # noqa: E402 - Django must be set up first
from freehold.tenancy.actors import system  # noqa: E402
from freehold.tenancy.selectors import tenant_by_slug  # noqa: E402

if __name__ == "__main__":
    tenant = tenant_by_slug(slug=TENANT)
    assert tenant is not None
    account_set(actor=system("e2e"), tenant_id=tenant.pk, prepaid=sys.argv[1] == "on")
