"""Configuration from the environment, read once at start, with errors that name the variable and the remedy."""

from __future__ import annotations

import os
from collections.abc import Mapping


class ConfigurationError(Exception):
    """The environment lacks a variable or holds one that cannot be understood."""


def text(name: str, default: str | None = None, *, environ: Mapping[str, str] = os.environ) -> str:
    """The variable, or the default; ConfigurationError where neither is there."""
    value = environ.get(name, "")
    if value:
        return value
    if default is None:
        raise ConfigurationError(
            f"{name} is not set. Set it in the environment; docs/configuration.md lists every name."
        )
    return default


def integer(name: str, default: int, *, environ: Mapping[str, str] = os.environ) -> int:
    """The variable as an integer."""
    value = environ.get(name, "")
    try:
        return int(value) if value else default
    except ValueError:
        raise ConfigurationError(f"{name}={value!r} is not an integer.") from None


def boolean(name: str, default: bool, *, environ: Mapping[str, str] = os.environ) -> bool:
    """The variable as true or false (1/0, true/false, yes/no)."""
    value = environ.get(name, "").lower()
    if not value:
        return default
    if value in {"1", "true", "yes"}:
        return True
    if value in {"0", "false", "no"}:
        return False
    raise ConfigurationError(f"{name}={value!r} is neither true nor false.")


def listing(name: str, default: str = "", *, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The variable as a comma-separated list, without empty items."""
    return [item.strip() for item in environ.get(name, default).split(",") if item.strip()]
