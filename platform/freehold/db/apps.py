"""Django's entry for the shared database objects (a sequence, the migrate command)."""

from django.apps import AppConfig


class DbConfig(AppConfig):
    name = "freehold.db"
    label = "freehold_db"
