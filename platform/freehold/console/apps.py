"""Django's entry for the console."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "freehold.console"
    label = "console"
