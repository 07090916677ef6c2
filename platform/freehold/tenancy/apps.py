"""Django's entry for tenancy."""

from django.apps import AppConfig


class TenancyConfig(AppConfig):
    name = "freehold.tenancy"
    label = "tenancy"
