"""The form “New endpoint”. “Where would it run?” tries the placement out, pool by pool, and creates nothing."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from freehold.billing.selectors import book_currency, flavor_prices, prices_that_matter
from freehold.common import clock
from freehold.common.errors import FreeholdError
from freehold.console.endpoint_forms import FIELDS, EndpointForm
from freehold.console.forms import show_error
from freehold.console.visits import Visit, member_view, page
from freehold.fleet.choices import Verdict
from freehold.fleet.placement import Plan
from freehold.fleet.selectors import offer_list, regions_with_clusters
from freehold.serving import services
from freehold.serving.models import ENDPOINT_NAME_MAX, Endpoint
from freehold.serving.placements import endpoint_placement, regions_allowed
from freehold.tenancy.permissions import Operation

TRY = "try"  # the name of the button that tries the placement out


@member_view(Operation.ENDPOINT_WRITE, methods=("GET", "HEAD", "POST"))
def endpoint_new(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """`?model=` and `?revision=` fill in what to serve."""
    choices = _choices(visit)
    form, status, plan = EndpointForm(initial=_initial(request), **choices), 200, None
    if request.method == "POST":
        form, status = EndpointForm(request.POST, **choices), 400
        if form.is_valid():
            try:
                if TRY not in request.POST:
                    made = _create(visit, form)
                    messages.success(request, f"The endpoint {made.name} is being started.")
                    return redirect("console:endpoint", made.public_id)
                plan, status = _try(visit, form), 200
            except FreeholdError as error:
                show_error(form, error, fields=FIELDS)
                status = error.status
    context = {"form": form, "plan": plan, "candidates": _shown(plan), "currency": book_currency(), "try": TRY}
    return page(request, visit, "console/endpoints/new.html", context, status=status)


def _choices(visit: Visit) -> dict[str, Any]:
    allowed = regions_allowed(tenant_id=visit.tenant_id)
    offers = offer_list(regions_allowed=allowed)
    return {
        "regions": [region for region in regions_with_clusters() if not allowed or region.name in allowed],
        "offers": offers,
        "prices": flavor_prices(flavors=[offer.flavor.name for offer in offers], at=clock.now()),
    }


def _initial(request: HttpRequest) -> dict[str, str]:
    model, revision = request.GET.get("model", "")[:96], request.GET.get("revision", "")[:200]
    name = model.lower().replace("_", "-")[:ENDPOINT_NAME_MAX].strip("-.")
    return {key: value for key, value in (("model", model), ("revision", revision), ("name", name)) if value}


def _create(visit: Visit, form: EndpointForm) -> Endpoint:
    return services.endpoint_create(
        actor=visit.actor,
        tenant_id=visit.tenant_id,
        name=form.cleaned_data["name"],
        model=f"{visit.tenant.slug}/{form.cleaned_data['model']}",
        billing_mode=form.mode,
        prices=prices_that_matter(mode=form.mode, at=clock.now()),
        **form.wanted,
    )


def _try(visit: Visit, form: EndpointForm) -> Plan:
    return endpoint_placement(
        actor=visit.actor,
        tenant_id=visit.tenant_id,
        model=f"{visit.tenant.slug}/{form.cleaned_data['model']}",
        prices=prices_that_matter(mode=form.mode, at=clock.now()),
        **form.wanted,
    )


def _shown(plan: Plan | None) -> list[Any]:
    """What concerns a customer: not clusters that take nothing new, nor flavors that are not offered."""
    return [
        candidate
        for candidate in (plan.candidates if plan is not None else ())
        if candidate.verdict is not Verdict.CLUSTER and candidate.flavor.enabled
    ]
