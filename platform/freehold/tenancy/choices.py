"""Closed lists of tenancy, free of Django."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a member or an API key is in a tenant; the permission table says what each may do."""

    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"
    INFERENCE = "inference"  # for API keys inside applications: calls models and nothing else


class ActorKind(StrEnum):
    """Who acts."""

    USER = "user"
    KEY = "key"
    SYSTEM = "system"
