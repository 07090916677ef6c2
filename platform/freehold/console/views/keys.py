"""API keys: list, create, revoke. A secret is in one answer and in no session, message or log."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from freehold.common import clock
from freehold.common.errors import FreeholdError, NotFound, PermissionDenied
from freehold.console.visits import Visit, member_view, page
from freehold.db.rls import tenant_scope
from freehold.tenancy import selectors, services
from freehold.tenancy.choices import Role
from freehold.tenancy.models import ApiKey
from freehold.tenancy.permissions import ALLOWED, Operation, require

ROLES = {
    Role.INFERENCE: "Inference: calls models and nothing else. For applications.",
    Role.VIEWER: "Viewer: reads everything but secrets.",
    Role.DEVELOPER: "Developer: also uploads models and runs endpoints. For hf upload and CI.",
    Role.ADMIN: "Admin: also manages keys and members.",
}
LIFETIMES = {"": "Never", "30": "In 30 days", "90": "In 90 days", "365": "In a year"}
_USED_FORMS = "used_key_forms"  # in the session: forms already sent, so that reloading the answer makes no second key
_REMEMBERED = 20


class KeyForm(forms.Form):
    """A new key. `form_id` is random text by which a form sent twice is known."""

    name = forms.CharField(max_length=100, help_text="Say where it is used, such as “web shop, production”.")
    role = forms.ChoiceField(help_text="Give it no more than it needs.")
    expires = forms.ChoiceField(choices=list(LIFETIMES.items()), required=False)
    form_id = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, visit: Visit, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mine = ALLOWED[Role(visit.membership.role)]
        role = self.fields["role"]
        if isinstance(role, forms.ChoiceField):
            role.choices = [(role.value, words) for role, words in ROLES.items() if ALLOWED[role] <= mine]


@member_view(Operation.KEY_READ, methods=("GET", "HEAD", "POST"))
def keys(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """The list; POST creates a key.

    The answer to that POST is the page with the secret itself: a redirect would have to keep the secret somewhere.
    """
    if request.method != "POST":
        return _list(request, visit, None)
    require(visit.actor, Operation.KEY_MANAGE, tenant_id=visit.tenant_id)
    form = KeyForm(request.POST, visit=visit)
    if not form.is_valid():
        return _list(request, visit, form, status=400)
    used = request.session.get(_USED_FORMS, [])
    if form.cleaned_data["form_id"] in used:
        messages.warning(
            request, "That key was created already. Its secret is shown only once; revoke it if you lost it."
        )
        return redirect("console:keys")
    try:
        new = _create(visit, form)
    except (NotFound, PermissionDenied):
        raise
    except FreeholdError as error:
        form.add_error(error.field if error.field in form.fields else None, error.message)
        return _list(request, visit, form, status=error.status)
    request.session[_USED_FORMS] = [*used, form.cleaned_data["form_id"]][-_REMEMBERED:]
    return page(request, visit, "console/keys/created.html", {"new": new})


@member_view(Operation.KEY_MANAGE, methods=("GET", "HEAD", "POST"))
def key_revoke(request: HttpRequest, visit: Visit, key_id: str) -> HttpResponseBase:
    """Asks whether it is meant; POST revokes."""
    with tenant_scope(visit.tenant_id):
        key = selectors.api_key_list(tenant_id=visit.tenant_id).filter(pk=ApiKey.parse_id(key_id)).first()
    if key is None:
        raise NotFound("There is no such API key.")
    if request.method == "POST":
        services.api_key_revoke(actor=visit.actor, tenant_id=visit.tenant_id, key_id=key.pk)
        messages.success(request, f"The key “{key.name}” is revoked. Gateways refuse it from now on.")
        return redirect("console:keys")
    if key.revoked_at is not None:
        return redirect("console:keys")
    return page(request, visit, "console/keys/revoke.html", {"key": key})


def _create(visit: Visit, form: KeyForm) -> services.NewApiKey:
    days = form.cleaned_data["expires"]
    return services.api_key_create(
        actor=visit.actor,
        tenant_id=visit.tenant_id,
        name=form.cleaned_data["name"],
        role=Role(form.cleaned_data["role"]),
        expires_at=clock.now() + timedelta(days=int(days)) if days else None,
    )


def _list(request: HttpRequest, visit: Visit, form: KeyForm | None, *, status: int = 200) -> HttpResponseBase:
    with tenant_scope(visit.tenant_id):
        found = list(selectors.api_key_list(tenant_id=visit.tenant_id))
    shown = form or KeyForm(visit=visit, initial={"form_id": secrets.token_urlsafe(16)})
    context = {"keys": found, "form": shown, "now": clock.now()}
    return page(request, visit, "console/keys/list.html", context, status=status)
