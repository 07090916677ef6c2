"""One endpoint: status, how to call it, what it costs, its log; for those who may, scaling and deletion."""

from __future__ import annotations

import redis
from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from freehold.billing.selectors import usage_and_cost
from freehold.common import clock
from freehold.common.errors import FreeholdError, NotFound, PermissionDenied
from freehold.console import snippets
from freehold.console.forms import DeleteForm
from freehold.console.live import Live, live
from freehold.console.periods import month_start
from freehold.console.visits import Visit, is_htmx, member_view, page
from freehold.db.rls import tenant_scope
from freehold.registry.choices import Task
from freehold.serving import selectors, services
from freehold.serving.events import event_list
from freehold.serving.models import Endpoint
from freehold.tenancy.permissions import Operation
from freehold.wire import connection, logs

STATUS_SECONDS, LOG_SECONDS, EVENT_SECONDS, USAGE_SECONDS = 2, 2, 5, 5
LOG_LINES = 200
EVENTS = 30


class ScaleForm(forms.Form):
    """How many replicas are wanted."""

    replicas = forms.IntegerField(min_value=0, max_value=services.MAX_REPLICAS)


@member_view(Operation.ENDPOINT_READ)
def endpoint_page(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """The whole page."""
    return _page(request, visit, _endpoint(visit, endpoint_id))


@member_view(Operation.ENDPOINT_READ)
def endpoint_status(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """Phase, conditions and replicas. When the endpoint is gone, the browser goes to the list."""
    try:
        endpoint = _endpoint(visit, endpoint_id)
    except NotFound:
        if is_htmx(request):
            return HttpResponseClientRedirect(reverse("console:endpoints"))
        raise
    return _status(request, visit, endpoint).answer(request)


@member_view(Operation.USAGE_READ)
def endpoint_usage(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """Usage and cost of the month so far."""
    return _usage(request, visit, _endpoint(visit, endpoint_id)).answer(request)


@member_view(Operation.ENDPOINT_READ)
def endpoint_events(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """What workers did to it, and what came of that."""
    return _events(request, visit, _endpoint(visit, endpoint_id)).answer(request)


@member_view(Operation.ENDPOINT_READ)
def endpoint_logs(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """The newest log lines."""
    return _logs(request, _endpoint(visit, endpoint_id)).answer(request)


@member_view(Operation.ENDPOINT_WRITE, methods=("POST",))
def endpoint_scale(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """Another number of replicas."""
    endpoint = _endpoint(visit, endpoint_id)
    form = ScaleForm(request.POST)
    status = 400
    if form.is_valid():
        replicas = form.cleaned_data["replicas"]
        try:
            services.endpoint_scale(
                actor=visit.actor, tenant_id=visit.tenant_id, endpoint_id=endpoint.pk, replicas=replicas
            )
        except (NotFound, PermissionDenied):
            raise
        except FreeholdError as error:
            form.add_error("replicas", error.message)
            status = error.status
        else:
            wanted = "1 replica" if replicas == 1 else f"{replicas} replicas"
            messages.success(request, f"{endpoint.name} is being scaled to {wanted}.")
            return redirect("console:endpoint", endpoint.public_id)
    return _page(request, visit, endpoint, scale=form, status=status)


@member_view(Operation.ENDPOINT_WRITE, methods=("POST",))
def endpoint_delete(request: HttpRequest, visit: Visit, endpoint_id: str) -> HttpResponseBase:
    """Asks for deletion, once the name was typed."""
    endpoint = _endpoint(visit, endpoint_id)
    form = DeleteForm(request.POST, expected=endpoint.name)
    status = 400
    if form.is_valid():
        try:
            services.endpoint_delete(actor=visit.actor, tenant_id=visit.tenant_id, endpoint_id=endpoint.pk)
        except (NotFound, PermissionDenied):
            raise
        except FreeholdError as error:
            form.add_error("name", error.message)
            status = error.status
        else:
            messages.success(request, f"{endpoint.name} is being deleted. It takes no more requests.")
            return redirect("console:endpoints")
    return _page(request, visit, endpoint, delete=form, status=status)


def _endpoint(visit: Visit, endpoint_id: str) -> Endpoint:
    with tenant_scope(visit.tenant_id):
        return selectors.endpoint_get(tenant_id=visit.tenant_id, endpoint_id=Endpoint.parse_id(endpoint_id))


def _page(
    request: HttpRequest,
    visit: Visit,
    endpoint: Endpoint,
    *,
    scale: ScaleForm | None = None,
    delete: DeleteForm | None = None,
    status: int = 200,
) -> HttpResponseBase:
    spec = endpoint.spec
    inspection = spec.revision.inspection
    context = {
        "endpoint": endpoint,
        "spec": spec,
        "status": _status(request, visit, endpoint),
        "events": _events(request, visit, endpoint),
        "log": _logs(request, endpoint),
        "usage": _usage(request, visit, endpoint) if visit.may(Operation.USAGE_READ) else None,
        "calls": snippets.calls(
            gateway_url=settings.GATEWAY_URL,
            model_name=endpoint.model_name,
            task=str(inspection.get("task", Task.GENERATE.value)),
            chat=bool(inspection.get("has_chat_template", True)),
        ),
        "scale": scale or ScaleForm(initial={"replicas": spec.replicas}),
        "delete": delete or DeleteForm(expected=endpoint.name),
        "most": services.MAX_REPLICAS,
    }
    return page(request, visit, "console/endpoints/page.html", context, status=status)


def _status(request: HttpRequest, visit: Visit, endpoint: Endpoint) -> Live:
    return live(
        request,
        "console/endpoints/status.html",
        {"endpoint": endpoint, "spec": endpoint.spec, "visit": visit},
        element="div",
        name="endpoint-status",
        url=reverse("console:endpoint-status", args=[endpoint.public_id]),
        seconds=STATUS_SECONDS,
    )


def _usage(request: HttpRequest, visit: Visit, endpoint: Endpoint) -> Live:
    now = clock.now()
    statement = usage_and_cost(
        tenant_id=visit.tenant_id, start=month_start(now), end=now, endpoint_id=endpoint.pk, now=now
    )
    return live(
        request,
        "console/endpoints/usage.html",
        {"endpoint": endpoint, "line": statement.total, "start": statement.start},
        element="div",
        name="endpoint-usage",
        url=reverse("console:endpoint-usage", args=[endpoint.public_id]),
        seconds=USAGE_SECONDS,
    )


def _events(request: HttpRequest, visit: Visit, endpoint: Endpoint) -> Live:
    with tenant_scope(visit.tenant_id):
        events = list(event_list(endpoint_id=endpoint.pk)[:EVENTS])
    return live(
        request,
        "console/endpoints/events.html",
        {"endpoint": endpoint, "events": events, "most": EVENTS},
        element="div",
        name="endpoint-events",
        url=reverse("console:endpoint-events", args=[endpoint.public_id]),
        seconds=EVENT_SECONDS,
    )


def _logs(request: HttpRequest, endpoint: Endpoint) -> Live:
    """Also tells the watcher that somebody looks, so that the next request finds lines."""
    lines: list[logs.LogLine] = []
    reachable = True
    try:
        client = connection.client()
        logs.want(client, endpoint.public_id)
        lines = logs.read(client, endpoint.public_id, count=LOG_LINES)
    except redis.RedisError:
        reachable = False
    several = len({line.replica for line in lines}) > 1
    return live(
        request,
        "console/endpoints/logs.html",
        {"endpoint": endpoint, "lines": lines, "several": several, "reachable": reachable},
        element="div",
        name="endpoint-log",
        url=reverse("console:endpoint-logs", args=[endpoint.public_id]),
        seconds=LOG_SECONDS,
    )
