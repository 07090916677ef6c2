"""Django's entry for operations."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "freehold.operations"
    label = "operations"
