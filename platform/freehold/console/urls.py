"""Every address of the console. First segments are reserved as tenant slugs (tenancy.services), because the hub's
`/<tenant>/<model>` shares this origin."""

from __future__ import annotations

from django.urls import path

from freehold.console.views import endpoint, endpoints, home, keys, models, session, usage

app_name = "console"

urlpatterns = [
    path("", home.home, name="home"),
    path("login", session.SignIn.as_view(), name="login"),
    path("logout", session.SignOut.as_view(), name="logout"),
    path("console/tenant", session.tenant_switch, name="tenant-switch"),
    path("console/endpoints", endpoints.endpoint_list, name="endpoints"),
    path("console/endpoints/rows", endpoints.endpoint_rows, name="endpoint-rows"),
    path("console/endpoints/<str:endpoint_id>", endpoint.endpoint_page, name="endpoint"),
    path("console/endpoints/<str:endpoint_id>/status", endpoint.endpoint_status, name="endpoint-status"),
    path("console/endpoints/<str:endpoint_id>/usage", endpoint.endpoint_usage, name="endpoint-usage"),
    path("console/endpoints/<str:endpoint_id>/logs", endpoint.endpoint_logs, name="endpoint-logs"),
    path("console/endpoints/<str:endpoint_id>/scale", endpoint.endpoint_scale, name="endpoint-scale"),
    path("console/endpoints/<str:endpoint_id>/delete", endpoint.endpoint_delete, name="endpoint-delete"),
    path("console/models", models.model_list, name="models"),
    path("console/models/<str:model_id>", models.model_page, name="model"),
    path("console/usage", usage.usage, name="usage"),
    path("console/keys", keys.keys, name="keys"),
    path("console/keys/<str:key_id>/revoke", keys.key_revoke, name="key-revoke"),
]
