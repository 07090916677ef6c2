"""Addresses of the REST API, under /api/v1/."""

from __future__ import annotations

from django.urls import path, re_path

from freehold.api.v1.api_keys import ApiKeysView, ApiKeyView
from freehold.api.v1.catalog import CatalogModelView, CatalogView
from freehold.api.v1.endpoint_events import EndpointEventsView
from freehold.api.v1.endpoint_logs import EndpointLogsView
from freehold.api.v1.endpoints import EndpointsView, EndpointView
from freehold.api.v1.flavors import FlavorsView
from freehold.api.v1.imports import ImportActionView, ImportsView, ImportView
from freehold.api.v1.model_contents import ArchiveView, TensorsView
from freehold.api.v1.models import ModelsView, ModelView
from freehold.api.v1.placements import PlacementsView
from freehold.api.v1.regions import RegionsView
from freehold.api.v1.revisions import RevisionsView, RevisionView
from freehold.api.v1.sizing import SizingView
from freehold.api.v1.storage import StorageCleanupView, StorageUploadView, StorageView
from freehold.api.v1.tenants import TenantMeView
from freehold.api.v1.usage import UsageView
from freehold.api.views import NothingView, SchemaView

app_name = "api"

urlpatterns = [
    path("schema", SchemaView.as_view(), name="schema"),
    path("tenants/me", TenantMeView.as_view(), name="tenant-me"),
    path("api-keys", ApiKeysView.as_view(), name="api-keys"),
    path("api-keys/<str:key_id>", ApiKeyView.as_view(), name="api-key"),
    path("catalog", CatalogView.as_view(), name="catalog"),
    path("catalog/<str:organization>/<str:name>", CatalogModelView.as_view(), name="catalog-model"),
    path("models", ModelsView.as_view(), name="models"),
    path("models/<str:model_id>", ModelView.as_view(), name="model"),
    path("models/<str:model_id>/archive", ArchiveView.as_view(), name="model-archive"),
    path("models/<str:model_id>/sizing", SizingView.as_view(), name="model-sizing"),
    path("models/<str:model_id>/tensors", TensorsView.as_view(), name="model-tensors"),
    path("models/<str:model_id>/revisions", RevisionsView.as_view(), name="revisions"),
    path("models/<str:model_id>/revisions/<path:revision>", RevisionView.as_view(), name="revision"),
    path("imports", ImportsView.as_view(), name="imports"),
    path("imports/<str:import_id>", ImportView.as_view(), name="import"),
    path("imports/<str:import_id>/<str:action>", ImportActionView.as_view(), name="import-action"),
    path("endpoints", EndpointsView.as_view(), name="endpoints"),
    path("endpoints/<str:endpoint_id>", EndpointView.as_view(), name="endpoint"),
    path("endpoints/<str:endpoint_id>/events", EndpointEventsView.as_view(), name="endpoint-events"),
    path("endpoints/<str:endpoint_id>/logs", EndpointLogsView.as_view(), name="endpoint-logs"),
    path("regions", RegionsView.as_view(), name="regions"),
    path("flavors", FlavorsView.as_view(), name="flavors"),
    path("placements", PlacementsView.as_view(), name="placements"),
    path("storage", StorageView.as_view(), name="storage"),
    path("storage/cleanup", StorageCleanupView.as_view(), name="storage-cleanup"),
    path("storage/uploads/<str:upload_id>", StorageUploadView.as_view(), name="storage-upload"),
    path("usage", UsageView.as_view(), name="usage"),
    re_path(r"^.*$", NothingView.as_view(), name="nothing"),
]
