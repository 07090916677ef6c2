"""Every address of the web origin. The hub's come last: its `<tenant>/<model>/…` would match anything (tenancy reserves
the other first segments as slugs). /healthz and /readyz are answered by config/health.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("freehold.api.urls")),
    path("", include("freehold.console.urls")),
    path("", include("freehold.hub.urls")),
]
