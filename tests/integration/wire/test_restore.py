"""PostgreSQL restored from a backup draws versions that Redis has seen; what is published wins all the same."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from freehold.billing import publication as billing
from freehold.db.versions import next_version, versions_advance
from freehold.serving import publication as serving
from freehold.tenancy import publication as tenancy
from freehold.wire import names
from freehold.wire.names import Section
from freehold.wire.publish import Publisher, split
from tests.factories.usage import make_tenant

pytestmark = pytest.mark.django_db


def _complete(client: redis.Redis, section: Section) -> int:
    return int(cast("bytes", client.get(names.complete(section))))


def test_versions_go_on_above_what_was_seen() -> None:
    before = next_version()
    versions_advance(before + 50)
    assert next_version() == before + 51
    versions_advance(3)
    assert next_version() > before + 51


def test_a_resync_after_a_restore_replaces_what_was_published_before(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    tenancy.publish_all()
    ahead = next_version() + 1_000
    publisher = Publisher(redis_client)
    for section in Section:
        publisher.replace(section, {}, version=ahead)
    tenancy.publish_all()
    serving.publish_all()
    billing.publish_all()
    assert all(_complete(redis_client, section) > ahead for section in Section)
    found = cast("bytes", redis_client.hget(names.section(Section.TENANTS), tenant.public_id))
    assert split(found)[1]
