"""Users, tenants and what ties them together."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models import Value

from freehold.db.models import BaseModel, TenantOwned
from freehold.tenancy.choices import Role
from freehold.tenancy.limits import Limited


def new_cache_salt() -> str:
    """Random text that keeps one tenant's prefix cache apart from another's."""
    return secrets.token_urlsafe(24)


class UserManager(BaseUserManager["User"]):
    """Django asks for this to sign people in and for `createsuperuser`."""

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        """A new user; without a password nobody can sign in as it."""
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        """A new operator."""
        return self.create_user(email, password, is_operator=True, **extra)

    def get_by_natural_key(self, username: str | None) -> User:
        """Sign-in ignores the case of the address."""
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin, BaseModel):
    """A person, who may be a member of many tenants. `is_operator` opens the operator's side."""

    ID_PREFIX = "usr"

    email = models.EmailField(unique=True)
    name = models.TextField(blank=True)
    is_operator = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)

    objects = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.email

    @property
    def is_staff(self) -> bool:
        """Django's admin is the operator's."""
        return self.is_operator

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """The admin's permissions are all or nothing."""
        return self.is_active and self.is_operator

    def has_module_perms(self, app_label: str) -> bool:
        """As has_perm."""
        return self.is_active and self.is_operator


class Tenant(Limited, BaseModel):
    """The billing and isolation boundary. Its slug is the first half of public model names and never changes.

    `regions_allowed` is the residency policy: names of the only regions where its models may run; empty for all. The
    limits are of all its keys together; the operator sets them.
    """

    ID_PREFIX = "tnt"

    slug = models.SlugField(max_length=40, unique=True)
    name = models.TextField()
    cache_salt = models.TextField(default=new_cache_salt, editable=False)
    suspended_at = models.DateTimeField(null=True, blank=True)
    regions_allowed = models.JSONField(default=list, db_default=Value([], output_field=models.JSONField()), blank=True)

    def __str__(self) -> str:
        return self.slug


class Membership(TenantOwned):
    """A user's role in a tenant."""

    ID_PREFIX = "mbr"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.TextField(choices=[(role.value, role.value) for role in Role])

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role}"


class ApiKey(Limited, TenantOwned):
    """A secret that acts for a tenant. Only its SHA-256 is kept: it is random enough to need no slow hash."""

    ID_PREFIX = "key"

    name = models.TextField()
    role = models.TextField(choices=[(role.value, role.value) for role in Role])
    secret_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=16, editable=False)
    models_allowed = models.JSONField(null=True, blank=True)
    created_by = models.TextField(editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"
