"""The names of what is seeded, for those who make it (seed.py) and those who speak of it (up.py)."""

from __future__ import annotations

from typing import Final

TENANT: Final = "demo"
OPERATOR_EMAIL: Final = "operator@freehold.example"
ADMIN_EMAIL: Final = "admin@demo.example"
REGION: Final = "local"
CLUSTER: Final = "this machine"
FLAVOR: Final = "cpu-local"
