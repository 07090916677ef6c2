"""Django's entry for the audit trail."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "freehold.audit"
    label = "audit"
