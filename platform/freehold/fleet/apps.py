"""Django's entry for the fleet."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    name = "freehold.fleet"
    label = "fleet"
