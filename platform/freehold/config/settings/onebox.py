"""`make up`: everything on one machine, plain HTTP on loopback."""

from freehold.config.settings.base import *  # noqa: F403 - settings are layered by import, Django's own convention
