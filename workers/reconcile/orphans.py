"""What is in a cluster under our label and belongs to no endpoint: found and removed.

It should not exist: an endpoint's row outlives its objects. It does after a restore of an older database, or where
somebody copied an object with its labels. Young things are left alone: nobody is in a hurry, and a clock may be wrong.
So is everything where too many endpoints are unknown at once: then it is the database that should be looked at.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from freehold.common.errors import NotFound
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from workers.runtimes.base import Action, Belonging, Verb


def orphans(
    found: Iterable[Belonging],
    *,
    endpoints_known: Callable[[Collection[uuid.UUID]], Collection[uuid.UUID]],
    tenants_known: Callable[[Collection[uuid.UUID]], Collection[uuid.UUID]],
    grace: timedelta,
    now: datetime,
) -> tuple[Action, ...]:
    """Deletions of what nobody knows: objects of unknown endpoints, and namespaces of tenants without endpoints, which
    take the rest with them. What carries an id that is none is left alone: it is not from us."""
    old = [belonging for belonging in found if now - belonging.created_at > grace]
    of_endpoints = {belonging.endpoint: _key(Endpoint.parse_id, belonging.endpoint) for belonging in old}
    of_tenants = {belonging.tenant: _key(Tenant.parse_id, belonging.tenant) for belonging in old}
    endpoints = set(endpoints_known([key for key in of_endpoints.values() if key is not None]))
    tenants = set(tenants_known([key for key in of_tenants.values() if key is not None]))
    actions = []
    for belonging in old:
        if belonging.endpoint:
            key = of_endpoints[belonging.endpoint]
            lost = key is not None and key not in endpoints
            why = "no endpoint knows it"
        else:
            key = of_tenants[belonging.tenant]
            lost = belonging.key.kind == "Namespace" and key is not None and key not in tenants
            why = "its tenant has no endpoint here"
        if lost:
            actions.append(Action(verb=Verb.DELETE, object=belonging.key, uid=belonging.uid, reason=why))
    return tuple(actions)


def owners(actions: Iterable[Action], found: Iterable[Belonging]) -> set[str]:
    """The endpoints and tenants of which these deletions would take something."""
    wanted = {(action.object, action.uid) for action in actions}
    return {one.endpoint or one.tenant for one in found if (one.key, one.uid) in wanted}


def _key(parse: Callable[[str], uuid.UUID], text: str) -> uuid.UUID | None:
    try:
        return parse(text)
    except NotFound:
        return None
