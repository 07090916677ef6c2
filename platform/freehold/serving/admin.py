"""Endpoints and the catalog in the operator's admin: to look at. Owners change the ones, `catalog_load` the other."""

from __future__ import annotations

from django.contrib import admin

from freehold.db.admin import ReadOnlyAdmin
from freehold.serving.models import CatalogModel, Endpoint, EndpointSpec


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    list_display = (
        "name", "tenant", "phase", "ready_replicas", "billing_mode", "cluster", "generation", "observed_generation",
        "created_at", "deleted_at",
    )  # fmt: skip
    list_filter = ("phase", "billing_mode", "kind", "cluster", ("deleted_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant", "cluster")
    search_fields = ("name", "tenant__slug", "id")
    ordering = ("-id",)


@admin.register(EndpointSpec)
class EndpointSpecAdmin(ReadOnlyAdmin):
    list_display = ("endpoint", "tenant", "generation", "revision", "flavor", "replicas", "created_by", "created_at")
    list_filter = ("flavor",)
    list_select_related = ("endpoint", "tenant", "revision", "flavor")
    search_fields = ("endpoint__name", "tenant__slug", "revision__commit_id")
    ordering = ("-id",)


@admin.register(CatalogModel)
class CatalogModelAdmin(ReadOnlyAdmin):
    list_display = ("upstream_id", "title", "family", "kind", "position", "enabled", "updated_at")
    list_filter = ("enabled", "kind", "family")
    search_fields = ("upstream_id", "title", "id")
    ordering = ("position", "upstream_id")
