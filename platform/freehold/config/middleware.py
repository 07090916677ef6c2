"""The operator's admin sees every tenant, so its requests run in system scope; nothing else in the web process does."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from freehold.db.rls import system_scope

ADMIN_PREFIX = "/admin/"


class OperatorScopeMiddleware:
    """Opens the system scope for signed-in operators under /admin/."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Everyone else passes through without a scope and sees no tenant's rows."""
        user = request.user
        if request.path.startswith(ADMIN_PREFIX) and user.is_authenticated and user.is_operator:
            with system_scope("operator view: the admin"):
                response = self._get_response(request)
                if hasattr(response, "render") and callable(response.render):
                    response.render()
                return response
        return self._get_response(request)
