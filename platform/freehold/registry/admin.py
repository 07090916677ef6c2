"""The registry in the operator's admin: what there is, never what is in it."""

from __future__ import annotations

from django.contrib import admin

from freehold.db.admin import ReadOnlyAdmin
from freehold.registry.models import Blob, ModelFile, ModelRepo, Ref, Revision, RevisionHold


@admin.register(ModelRepo)
class ModelRepoAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "public_id", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug", "id")
    ordering = ("-id",)


@admin.register(Revision)
class RevisionAdmin(ReadOnlyAdmin):
    list_display = ("commit_id", "repo", "tenant", "status", "author", "message", "created_at")
    list_filter = ("status",)
    list_select_related = ("repo", "tenant")
    search_fields = ("commit_id", "repo__name", "tenant__slug", "digest")
    ordering = ("-id",)


@admin.register(Ref)
class RefAdmin(ReadOnlyAdmin):
    list_display = ("repo", "tenant", "kind", "name", "revision")
    list_filter = ("kind",)
    list_select_related = ("repo", "tenant", "revision")
    search_fields = ("name", "repo__name", "tenant__slug")
    ordering = ("-id",)


@admin.register(ModelFile)
class ModelFileAdmin(ReadOnlyAdmin):
    list_display = ("path", "revision", "tenant", "size", "sha256", "lfs")
    list_filter = ("lfs",)
    list_select_related = ("revision", "tenant")
    search_fields = ("path", "sha256", "tenant__slug")
    ordering = ("-id",)


@admin.register(Blob)
class BlobAdmin(ReadOnlyAdmin):
    list_display = ("sha256", "tenant", "size", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("sha256", "tenant__slug")
    ordering = ("-id",)


@admin.register(RevisionHold)
class RevisionHoldAdmin(ReadOnlyAdmin):
    list_display = ("revision", "holder", "tenant", "created_at")
    list_select_related = ("revision", "tenant")
    search_fields = ("holder", "revision__commit_id", "tenant__slug")
    ordering = ("-id",)
