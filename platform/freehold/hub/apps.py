"""Django's entry for the hub. It has no tables: the registry's are its own."""

from django.apps import AppConfig


class HubConfig(AppConfig):
    name = "freehold.hub"
    label = "hub"
