"""Django's entry for billing."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "freehold.billing"
    label = "billing"
