"""Who looks at a page: the signed-in user in one of their tenants. Every view of a tenant's things is a `member_view`.

The tenant is chosen in the session and looked up among the user's memberships on every request, so that a membership
that was taken away ends at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render, resolve_url
from django_htmx.http import HttpResponseClientRedirect

from freehold.common.errors import FreeholdError, NotFound, PermissionDenied
from freehold.tenancy.actors import Actor
from freehold.tenancy.models import Membership, Tenant, User
from freehold.tenancy.permissions import Operation, allows, require
from freehold.tenancy.selectors import actor_of_user, memberships_of

SESSION_KEY = "tenant"  # holds the public id of the chosen tenant

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Visit:
    """One request of a member: `membership` is in the tenant they look at, `memberships` are all of theirs."""

    user: User
    membership: Membership
    memberships: Sequence[Membership]
    actor: Actor

    @property
    def tenant(self) -> Tenant:
        """The tenant whose things are shown."""
        return self.membership.tenant

    @property
    def tenant_id(self) -> uuid.UUID:
        """Its primary key."""
        return self.membership.tenant_id

    def may(self, operation: Operation) -> bool:
        """Whether to offer something at all; the service decides again."""
        return allows(self.actor, operation, tenant_id=self.tenant_id)

    @property
    def may_write_endpoints(self) -> bool:
        """For templates."""
        return self.may(Operation.ENDPOINT_WRITE)

    @property
    def may_write_models(self) -> bool:
        """For templates."""
        return self.may(Operation.MODEL_WRITE)

    @property
    def may_delete_models(self) -> bool:
        """For templates."""
        return self.may(Operation.MODEL_DELETE)

    @property
    def may_manage_keys(self) -> bool:
        """For templates."""
        return self.may(Operation.KEY_MANAGE)


def visit_of(request: HttpRequest) -> Visit | None:
    """The visit of a signed-in user, or None for one who is a member of nothing."""
    user = request.user
    if not isinstance(user, User):
        return None
    memberships = memberships_of(user=user)
    if not memberships:
        return None
    chosen = request.session.get(SESSION_KEY)
    membership = next((one for one in memberships if one.tenant.public_id == chosen), memberships[0])
    return Visit(
        user=user,
        membership=membership,
        memberships=memberships,
        actor=actor_of_user(user=user, membership=membership),
    )


def is_htmx(request: HttpRequest) -> bool:
    """Whether a part of a page is asked for, not a page."""
    return request.headers.get("HX-Request") == "true"


def member_view(
    operation: Operation, *, methods: Sequence[str] = ("GET", "HEAD"), also_suspended: bool = False
) -> Callable[
    [Callable[Concatenate[HttpRequest, Visit, Arguments], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, Arguments], HttpResponseBase],
]:
    """Makes a view for members whom the permission table allows `operation`; everybody else is sent where they belong.

    A suspended tenant's members see a page that says so, but for views that are `also_suspended`.
    Errors of selectors and services become pages: NotFound 404, PermissionDenied 403, others a page with their message.
    """

    def decorate(
        view: Callable[Concatenate[HttpRequest, Visit, Arguments], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, Arguments], HttpResponseBase]:
        @wraps(view)
        def wrapped(request: HttpRequest, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponseBase:
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            visit = visit_of(request)
            if visit is None:
                return redirect("console:home")
            if visit.tenant.suspended_at is not None and not also_suspended:
                return _suspended(request, visit)
            try:
                require(visit.actor, operation, tenant_id=visit.tenant_id)
                response = view(request, visit, *args, **kwargs)
            except NotFound as error:
                raise Http404(error.message) from error
            except PermissionDenied as error:
                raise DjangoPermissionDenied(error.message) from error
            except FreeholdError as error:
                response = page(request, visit, "console/error.html", {"error": error}, status=error.status)
            response.headers["Cache-Control"] = "no-store"
            return response

        return wrapped

    return decorate


def page(
    request: HttpRequest, visit: Visit, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    """A whole page with navigation; the template's folder says which entry is the current one."""
    section = template.split("/")[1]
    return render(request, template, {**(context or {}), "visit": visit, "section": section}, status=status)


def _suspended(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """A part of a page cannot show it, so the whole page is loaded again."""
    if is_htmx(request):
        return HttpResponseClientRedirect(resolve_url("console:endpoints"))
    response = render(request, "console/session/suspended.html", {"visit": visit}, status=403)
    response.headers["Cache-Control"] = "no-store"
    return response


def _to_sign_in(request: HttpRequest) -> HttpResponseBase:
    """A part of a page cannot show the sign-in form, so the whole page goes there."""
    if is_htmx(request):
        return HttpResponseClientRedirect(resolve_url("console:login"))
    back = request.get_full_path() if request.method in {"GET", "HEAD"} else resolve_url("console:home")
    return redirect_to_login(back, resolve_url("console:login"))
