"""Where a person lands: their endpoints, the operator's admin, or a page that says how to become a member."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from freehold.console.visits import visit_of
from freehold.tenancy.models import User


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """The way in."""
    if visit_of(request) is not None:
        return redirect("console:endpoints")
    if isinstance(request.user, User) and request.user.is_operator:
        return redirect("admin:index")
    return render(request, "console/session/no_tenant.html")
