"""Signing in and out, and the choice of the tenant."""

from __future__ import annotations

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from freehold.common.errors import NotFound
from freehold.console.visits import SESSION_KEY, Visit, member_view
from freehold.tenancy.permissions import Operation


class SignInForm(AuthenticationForm):
    """Says plainly what went wrong, and not which half of it."""

    error_messages = {
        "invalid_login": "No account has this address and password. Check both, then try again.",
        "inactive": "This account is switched off. Write to your provider.",
    }


class SignIn(LoginView):
    """The form; whoever is signed in goes on."""

    template_name = "console/session/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True


class SignOut(LogoutView):
    """POST only (Django's rule)."""


@member_view(Operation.TENANT_READ, methods=("POST",), also_suspended=True)
def tenant_switch(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """Remembers another of the user's tenants for this session."""
    chosen = request.POST.get("tenant", "")
    if chosen not in {membership.tenant.public_id for membership in visit.memberships}:
        raise NotFound("There is no such tenant.")
    request.session[SESSION_KEY] = chosen
    return redirect("console:endpoints")
