"""Tenants, users, members and keys in the operator's admin, and the base of admin pages that write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.http import HttpResponseRedirect

from freehold.common.errors import FreeholdError
from freehold.db.admin import ReadOnlyAdmin
from freehold.tenancy.actors import Actor
from freehold.tenancy.limits import FIELDS
from freehold.tenancy.models import ApiKey, Membership, Tenant, User
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.selectors import actor_of_user
from freehold.tenancy.services import audit_record, tenant_create, tenant_limits_set, tenant_residency_set

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.forms import ModelForm
    from django.http import HttpRequest, HttpResponse

    _ModelAdmin = admin.ModelAdmin[Any]
    _TenantForm = forms.ModelForm[Tenant]
else:
    _ModelAdmin = admin.ModelAdmin
    _TenantForm = forms.ModelForm

admin.site.site_header = "Freehold: operator"
admin.site.site_title = "Freehold"
admin.site.unregister(Group)  # rights are the permission table's business


def operator_of(request: HttpRequest) -> Actor:
    """The signed-in operator as the actor of a write."""
    if not isinstance(request.user, User):
        raise TypeError("the admin is for signed-in operators")
    return actor_of_user(user=request.user, membership=None)


class AuditedAdmin(_ModelAdmin):
    """An admin page that writes: each write checks the permission table and leaves an AuditEvent beside it.

    Attributes:
        operation: what the operator must be allowed.
        noun: first half of the AuditEvent's action.
        fixed: fields that cannot be changed once the object is there.
    """

    operation: ClassVar[Operation] = Operation.FLEET_MANAGE
    noun: ClassVar[str] = ""
    fixed: ClassVar[tuple[str, ...]] = ()
    list_per_page = 50

    def create(self, actor: Actor, obj: Any) -> Any:
        """Adds `obj`; subclasses call the domain's service, which checks, audits, and returns what it made."""
        raise NotImplementedError

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str] | tuple[Any, ...]:
        """As declared; `fixed` as well on an object that is there."""
        return [*super().get_readonly_fields(request, obj), *(self.fixed if obj is not None else ())]

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        """Raises FreeholdError, which changeform_view shows."""
        actor = operator_of(request)
        if not change:
            made = self.create(actor, obj)
            obj.pk, obj._state.adding = made.pk, False
            return
        require(actor, self.operation, tenant_id=None)
        super().save_model(request, obj, form, change)
        changed: dict[str, object] = {name: str(getattr(obj, name)) for name in form.changed_data}
        self._audit(actor, "update", obj, changed)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """One object."""
        actor = operator_of(request)
        require(actor, self.operation, tenant_id=None)
        self._audit(actor, "delete", obj, {"name": str(obj)})
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Several, each with its event."""
        for obj in queryset:
            self.delete_model(request, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """As Django's; what a service refuses is shown above the form instead of as a server error."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except FreeholdError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def _audit(self, actor: Actor, verb: str, obj: Any, detail: dict[str, object]) -> None:
        audit_record(actor=actor, tenant_id=None, action=f"{self.noun}.{verb}", object_id=obj.public_id, detail=detail)


class TenantForm(_TenantForm):
    """Regions as names with commas between."""

    regions_allowed = forms.CharField(
        required=False,
        label="Residency policy",
        help_text="The only regions where models may run: names with commas between. Empty: everywhere.",
    )

    class Meta:
        model = Tenant
        fields = ("slug", "name", *FIELDS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["regions_allowed"] = ", ".join(self.instance.regions_allowed)

    def clean_regions_allowed(self) -> list[str]:
        """Names, as many as there are."""
        text: str = self.cleaned_data["regions_allowed"]
        return text.replace(",", " ").split()


@admin.register(Tenant)
class TenantAdmin(AuditedAdmin):
    """To look at and to add; afterwards only the residency policy and the limits change here."""

    operation = Operation.TENANT_CREATE
    noun = "tenant"
    form = TenantForm
    fixed = ("slug", "name")
    list_display = ("slug", "name", "public_id", "regions_allowed", "suspended_at", "created_at")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter),)
    search_fields = ("slug", "name", "id")
    ordering = ("slug",)
    fields = ("slug", "name", "regions_allowed", *FIELDS)

    def create(self, actor: Actor, obj: Tenant) -> Tenant:
        """Through the service."""
        return tenant_create(actor=actor, slug=obj.slug, name=obj.name)

    def save_model(self, request: HttpRequest, obj: Tenant, form: ModelForm[Any], change: bool) -> None:
        """Through the services. Raises FreeholdError, which changeform_view shows."""
        if not change:
            super().save_model(request, obj, form, change)
        regions: list[str] = form.cleaned_data["regions_allowed"]
        if change or regions:
            tenant_residency_set(actor=operator_of(request), tenant_id=obj.pk, regions=regions)
        limits: dict[str, int | None] = {name: form.cleaned_data[name] for name in FIELDS}
        tenant_limits_set(actor=operator_of(request), tenant_id=obj.pk, limits=limits)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_operator", "is_active", "last_login", "created_at")
    list_filter = ("is_operator", "is_active")
    search_fields = ("email", "name", "id")
    ordering = ("email",)
    fields = ("email", "name", "is_operator", "is_active", "last_login", "created_at")


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "tenant__slug")
    ordering = ("-id",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "hint", "tenant", "role", "created_by", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("role", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("name", "hint", "tenant__slug", "created_by")
    ordering = ("-id",)
    exclude = ("secret_sha256",)
