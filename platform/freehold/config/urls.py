"""Every address of the web origin. The hub's come last: its `<tenant>/<model>/…` would match anything (tenancy reserves
the other first segments as slugs)."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this process answers; says nothing of the database."""
    return HttpResponse("ok\n", content_type="text/plain")


urlpatterns = [
    path("healthz", healthz),
    path("admin/", admin.site.urls),
    path("api/v1/", include("freehold.api.urls")),
    path("", include("freehold.console.urls")),
    path("", include("freehold.hub.urls")),
]
