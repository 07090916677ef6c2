"""Every address of the console. First segments are reserved as tenant slugs (tenancy.services), because the hub's
`/<tenant>/<model>` shares this origin."""

from __future__ import annotations

from django.urls import path

from freehold.console.views import (
    catalog,
    endpoint,
    endpoint_new,
    endpoints,
    home,
    import_new,
    import_page,
    imports,
    keys,
    model,
    model_delete,
    model_files,
    model_revisions,
    model_sizing,
    model_tensors,
    models,
    session,
    storage,
    usage,
)

app_name = "console"

urlpatterns = [
    path("", home.home, name="home"),
    path("login", session.SignIn.as_view(), name="login"),
    path("logout", session.SignOut.as_view(), name="logout"),
    path("console/tenant", session.tenant_switch, name="tenant-switch"),
    path("console/endpoints", endpoints.endpoint_list, name="endpoints"),
    path("console/endpoints/rows", endpoints.endpoint_rows, name="endpoint-rows"),
    path("console/endpoints/new", endpoint_new.endpoint_new, name="endpoint-new"),
    path("console/endpoints/<str:endpoint_id>", endpoint.endpoint_page, name="endpoint"),
    path("console/endpoints/<str:endpoint_id>/status", endpoint.endpoint_status, name="endpoint-status"),
    path("console/endpoints/<str:endpoint_id>/usage", endpoint.endpoint_usage, name="endpoint-usage"),
    path("console/endpoints/<str:endpoint_id>/events", endpoint.endpoint_events, name="endpoint-events"),
    path("console/endpoints/<str:endpoint_id>/logs", endpoint.endpoint_logs, name="endpoint-logs"),
    path("console/endpoints/<str:endpoint_id>/scale", endpoint.endpoint_scale, name="endpoint-scale"),
    path("console/endpoints/<str:endpoint_id>/delete", endpoint.endpoint_delete, name="endpoint-delete"),
    path("console/models", models.model_list, name="models"),
    path("console/models/<str:model_id>", model.model_page, name="model"),
    path("console/models/<str:model_id>/status", model.model_status, name="model-status"),
    path("console/models/<str:model_id>/files", model_files.model_files, name="model-files"),
    path("console/models/<str:model_id>/download", model_files.file_download, name="model-download"),
    path("console/models/<str:model_id>/archive", model_files.archive, name="model-archive"),
    path("console/models/<str:model_id>/sizing", model_sizing.model_sizing, name="model-sizing"),
    path("console/models/<str:model_id>/tensors", model_tensors.model_tensors, name="model-tensors"),
    path("console/models/<str:model_id>/revisions", model_revisions.model_revisions, name="model-revisions"),
    path("console/models/<str:model_id>/delete", model_delete.model_delete, name="model-delete"),
    path("console/imports", imports.import_list, name="imports"),
    path("console/imports/rows", imports.import_rows, name="import-rows"),
    path("console/imports/new", import_new.import_new, name="import-new"),
    path("console/imports/<str:import_id>", import_page.import_page, name="import"),
    path("console/imports/<str:import_id>/status", import_page.import_status, name="import-status"),
    path("console/imports/<str:import_id>/files", import_page.import_files, name="import-files"),
    path("console/imports/<str:import_id>/cancel", import_page.import_cancel, name="import-cancel"),
    path("console/imports/<str:import_id>/retry", import_page.import_retry, name="import-retry"),
    path("console/catalog", catalog.catalog, name="catalog"),
    path("console/catalog/<str:organization>/<str:name>", catalog.catalog_page, name="catalog-model"),
    path("console/storage", storage.storage, name="storage"),
    path("console/storage/discard", storage.discard, name="storage-discard"),
    path("console/storage/uploads/<str:upload_id>/cancel", storage.upload_cancel, name="upload-cancel"),
    path("console/usage", usage.usage, name="usage"),
    path("console/keys", keys.keys, name="keys"),
    path("console/keys/<str:key_id>/revoke", keys.key_revoke, name="key-revoke"),
]
