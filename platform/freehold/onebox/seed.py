"""Seeds what is missing: operator, demo tenant with an admin and an API key, region, cluster, flavor, prices, catalog.

`python -m freehold.onebox.seed`, run by up.py after the migrations as a process of its own, because it needs Django.
All of it goes through services, as an operator's own doing would. Prints one JSON object: `Seeded`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Final

import django

django.setup(set_prefix=False)

import psutil  # noqa: E402 - Django must be set up first
from django.conf import settings  # noqa: E402

from freehold.billing.choices import Meter  # noqa: E402
from freehold.billing.records import NewPrice  # noqa: E402
from freehold.billing.selectors import price_book_in_force  # noqa: E402
from freehold.billing.services import price_book_publish  # noqa: E402
from freehold.common import clock, logging  # noqa: E402
from freehold.common.errors import FreeholdError  # noqa: E402
from freehold.db.rls import system_scope  # noqa: E402
from freehold.fleet.choices import RuntimeKind  # noqa: E402
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Region  # noqa: E402
from freehold.fleet.services import (  # noqa: E402
    cluster_engine_set,
    cluster_register,
    flavor_create,
    node_pool_set,
    region_create,
)
from freehold.onebox.credentials import Credentials  # noqa: E402
from freehold.onebox.demo import ADMIN_EMAIL, CLUSTER, FLAVOR, OPERATOR_EMAIL, REGION, TENANT  # noqa: E402
from freehold.onebox.environment import engine_digest  # noqa: E402
from freehold.onebox.layout import Layout  # noqa: E402
from freehold.serving.catalog.document import SHIPPED, load  # noqa: E402
from freehold.serving.catalog.selectors import catalog_list  # noqa: E402
from freehold.serving.catalog.services import catalog_load  # noqa: E402
from freehold.tenancy.actors import system  # noqa: E402
from freehold.tenancy.choices import Role  # noqa: E402
from freehold.tenancy.models import Tenant, User  # noqa: E402
from freehold.tenancy.selectors import (  # noqa: E402
    api_key_authenticate,
    memberships_of,
    tenant_by_slug,
    user_by_email,
)
from freehold.tenancy.services import (  # noqa: E402
    api_key_create,
    member_add,
    operator_create,
    tenant_create,
    user_create,
)

_ACTOR = system("onebox")
_GIB = 1024**3
_REPLICA_BYTES = 3 * _GIB  # server, engine core and KV cache of a small model
_UNIT = 1_000_000_000  # nanos in a unit of the currency
_PRICES: Final = (
    NewPrice(meter=Meter.PROMPT_TOKENS, nanos=_UNIT // 5),  # 0.20 a million tokens
    NewPrice(meter=Meter.CACHED_PROMPT_TOKENS, nanos=_UNIT // 20),  # 0.05
    NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=_UNIT * 3 // 5),  # 0.60
    NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=_UNIT // 2, flavor=FLAVOR),  # 0.50 an hour
)


@dataclass(frozen=True)
class Seeded:
    """What the rest of `make up` needs. `key_is_new` on the first run: only then the key is shown."""

    api_key: str
    key_is_new: bool


def seed(layout: Layout) -> Seeded:
    """Makes what is missing and leaves alone what is there."""
    credentials = Credentials.of(layout.secrets)
    if user_by_email(email=OPERATOR_EMAIL) is None:
        operator_create(
            actor=_ACTOR, email=OPERATOR_EMAIL, password=credentials.operator_password, name="Demo operator"
        )
    tenant = tenant_by_slug(slug=TENANT) or tenant_create(actor=_ACTOR, slug=TENANT, name="Demo")
    admin = user_by_email(email=ADMIN_EMAIL) or user_create(
        actor=_ACTOR, email=ADMIN_EMAIL, password=credentials.admin_password, name="Demo admin"
    )
    _membership(tenant, admin)
    _fleet()
    if price_book_in_force(at=clock.now()) is None:
        price_book_publish(actor=_ACTOR, name="Demo prices", currency=settings.CURRENCY, prices=_PRICES)
    if not catalog_list().exists():
        catalog_load(actor=_ACTOR, catalog=load(SHIPPED))
    return _key(layout, tenant)


def _membership(tenant: Tenant, admin: User) -> None:
    if not any(membership.tenant_id == tenant.pk for membership in memberships_of(user=admin)):
        member_add(actor=_ACTOR, tenant=tenant, user=admin, role=Role.ADMIN)


def _fleet() -> None:
    digest = engine_digest()
    with system_scope("the fleet is the operator's"):
        region = Region.objects.filter(name=REGION).first()
        cluster = Cluster.objects.filter(name=CLUSTER).first()
        flavor = GpuFlavor.objects.filter(name=FLAVOR).first()
    region = region or region_create(actor=_ACTOR, name=REGION, display_name="Local")
    cluster = cluster or cluster_register(
        actor=_ACTOR, region=region, name=CLUSTER, runtime=RuntimeKind.LOCAL, engine_digest=digest
    )
    if cluster.engine_digest != digest:
        cluster_engine_set(actor=_ACTOR, cluster=cluster, engine_digest=digest)
    memory = psutil.virtual_memory().total
    flavor = flavor or flavor_create(
        actor=_ACTOR, name=FLAVOR, accelerator="cpu", memory_bytes=memory, kv_cache_bytes=_GIB
    )
    with system_scope("the fleet is the operator's"):
        pooled = NodePool.objects.filter(cluster=cluster, flavor=flavor).exists()
    if not pooled:
        node_pool_set(actor=_ACTOR, cluster=cluster, flavor=flavor, capacity=max(2, memory // _REPLICA_BYTES))


def _key(layout: Layout, tenant: Tenant) -> Seeded:
    """The key in demo.json where it still works, else a new one: a secret cannot be read back."""
    known = json.loads(layout.demo.read_text()).get("api_key", "") if layout.demo.exists() else ""
    if known:
        try:
            api_key_authenticate(secret=known)
        except FreeholdError:
            pass
        else:
            return Seeded(api_key=known, key_is_new=False)
    made = api_key_create(actor=_ACTOR, tenant_id=tenant.pk, name="make up", role=Role.ADMIN)
    return Seeded(api_key=made.secret, key_is_new=True)


if __name__ == "__main__":
    logging.configure(json=False)
    sys.stdout.write(json.dumps(asdict(seed(Layout.of()))) + "\n")
