"""Django's entry for metering."""

from django.apps import AppConfig


class MeteringConfig(AppConfig):
    name = "freehold.metering"
    label = "metering"
