"""Usage and cost so far: this month and the one before, by endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freehold.billing.records import UsageLine, UsageStatement
from freehold.billing.selectors import usage_and_cost
from freehold.common import clock, ids
from freehold.console.periods import month_start, previous_month
from freehold.console.visits import Visit, member_view, page
from freehold.db.rls import tenant_scope
from freehold.serving import selectors as serving
from freehold.serving.models import Endpoint
from freehold.tenancy.permissions import Operation


@dataclass(frozen=True)
class Row:
    """A line of the statement; `endpoint` is None once it is deleted."""

    name: str
    endpoint: Endpoint | None
    line: UsageLine


@dataclass(frozen=True)
class Month:
    """A statement as the page shows it."""

    start: datetime
    current: bool
    rows: list[Row]
    total: UsageLine


@member_view(Operation.USAGE_READ)
def usage(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """Both months."""
    now = clock.now()
    before_start, before_end = previous_month(now)
    current = usage_and_cost(tenant_id=visit.tenant_id, start=month_start(now), end=now, now=now)
    before = usage_and_cost(tenant_id=visit.tenant_id, start=before_start, end=before_end, now=now)
    with tenant_scope(visit.tenant_id):
        endpoints: dict[uuid.UUID | None, Endpoint] = {
            endpoint.pk: endpoint for endpoint in serving.endpoint_list(tenant_id=visit.tenant_id)
        }
    months = [_month(current, endpoints, current=True), _month(before, endpoints, current=False)]
    return page(request, visit, "console/usage/usage.html", {"months": months, "now": now})


def _month(statement: UsageStatement, endpoints: Mapping[uuid.UUID | None, Endpoint], *, current: bool) -> Month:
    rows = [_row(line, endpoints.get(line.endpoint_id)) for line in statement.lines]
    rows.sort(key=lambda row: (-row.line.amount_nanos, row.name))
    return Month(start=statement.start, current=current, rows=rows, total=statement.total)


def _row(line: UsageLine, endpoint: Endpoint | None) -> Row:
    if endpoint is not None:
        return Row(endpoint.name, endpoint, line)
    unnamed = "" if line.endpoint_id is None else ids.encode(Endpoint.ID_PREFIX, line.endpoint_id)
    return Row(line.model or unnamed, None, line)
