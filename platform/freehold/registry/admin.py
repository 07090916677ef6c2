"""The registry in the operator's admin: what there is, never what is in it; and what each tenant may keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery, Sum

from freehold.common.errors import InvalidInput
from freehold.db.admin import ReadOnlyAdmin
from freehold.registry import accounts
from freehold.registry.models import Blob, ModelFile, ModelRepo, Ref, Revision, RevisionHold, StorageAccount, Upload
from freehold.tenancy.admin import AuditedAdmin, operator_of
from freehold.tenancy.permissions import Operation

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    _Form = forms.ModelForm[StorageAccount]
else:
    _Form = forms.ModelForm


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
    list_display = ("sha256", "tenant", "size", "verified_at", "keep_until", "doomed_at", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("sha256", "tenant__slug")
    ordering = ("-id",)


@admin.register(RevisionHold)
class RevisionHoldAdmin(ReadOnlyAdmin):
    list_display = ("revision", "holder", "tenant", "created_at")
    list_select_related = ("revision", "tenant")
    search_fields = ("holder", "revision__commit_id", "tenant__slug")
    ordering = ("-id",)


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    list_display = ("sha256", "tenant", "size", "created_by", "created_at", "expires_at", "doomed_at")
    list_select_related = ("tenant",)
    search_fields = ("sha256", "tenant__slug", "created_by")
    ordering = ("-id",)
    exclude = ("multipart_id",)


class QuotaForm(_Form):
    """A quota in words."""

    quota = forms.CharField(
        max_length=40,
        help_text="500GiB, 1.5TiB, none (no limit) or default (STORAGE_QUOTA_GIB). Less than what is there: nothing "
        "goes, and nothing new comes in.",
    )

    class Meta:
        model = StorageAccount
        fields = ("tenant",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["quota"].initial = accounts.quota_in_words(self.instance.quota_bytes)

    def clean_quota(self) -> int | None:
        """Bytes, as quota_set takes them."""
        try:
            return accounts.quota_parse(self.cleaned_data["quota"])
        except InvalidInput as error:
            raise ValidationError(error.message) from None


@admin.register(StorageAccount)
class StorageAccountAdmin(AuditedAdmin):
    """What each tenant keeps and may keep. A tenant has an account from its first upload on, or from its quota on."""

    operation = Operation.QUOTA_MANAGE
    noun = "quota"
    fixed = ("tenant",)
    form = QuotaForm
    fields = ("tenant", "quota")
    list_display = ("tenant", "quota", "stored", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)
    ordering = ("tenant__slug",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[StorageAccount]:
        """With what each stores."""
        stored = Blob.objects.filter(tenant=OuterRef("tenant")).order_by().values("tenant").annotate(sum=Sum("size"))
        found: QuerySet[StorageAccount] = super().get_queryset(request)
        return found.annotate(stored_bytes=Subquery(stored.values("sum")))

    def save_model(self, request: HttpRequest, obj: Any, form: forms.ModelForm[Any], change: bool) -> None:
        """Through the service, which checks and audits."""
        made = accounts.quota_set(
            actor=operator_of(request), tenant_id=obj.tenant_id, quota_bytes=form.cleaned_data["quota"]
        )
        obj.pk, obj._state.adding = made.pk, False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: it is a lock, too."""
        return False

    @admin.display(description="quota")
    def quota(self, account: StorageAccount) -> str:
        """In words."""
        return accounts.quota_in_words(account.quota_bytes)

    @admin.display(description="stored")
    def stored(self, account: StorageAccount) -> str:
        """In words."""
        return accounts.in_words(getattr(account, "stored_bytes", None) or 0)
