"""Which origins may be asked in plain HTTP, and that production keeps what Django's own checks look for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.common.env import ConfigurationError
from freehold.config.security import plain_host

ROOT = Path(__file__).resolve().parents[3]
# Django's checks of SecurityMiddleware's settings look for it by name, and find ours by none.
CHECKS = """
import django
django.setup()
from django.conf import settings
from django.core.checks.security import base
own = "freehold.config.security.SecurityMiddleware"
assert own in settings.MIDDLEWARE
settings.MIDDLEWARE = [
    name.replace(own, "django.middleware.security.SecurityMiddleware") for name in settings.MIDDLEWARE
]
found = [warning for name in dir(base) if name.startswith("check_") for warning in getattr(base, name)(None)]
assert not found, found
"""


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("", ""),
        ("http://freehold-web.freehold.svc:8080", "freehold-web.freehold.svc:8080"),
        ("http://Freehold-Web.freehold.svc:80", "freehold-web.freehold.svc"),
        ("http://freehold-web.freehold.svc", "freehold-web.freehold.svc"),
        ("http://[fd00::1]:8400", "[fd00::1]:8400"),
        ("https://freehold.example", ""),
    ],
)
def test_an_origin_without_tls_is_known_by_what_clients_write_in_host(url: str, host: str) -> None:
    assert plain_host(url) == host


@pytest.mark.parametrize("url", ["freehold-web:8400", "ftp://freehold-web", "http://", "http://web/hub"])
def test_what_is_no_origin_is_refused_at_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="FREEHOLD_HUB_URL"):
        plain_host(url)


def test_djangos_checks_find_nothing_to_say_of_production() -> None:
    variables = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "DJANGO_SETTINGS_MODULE": "freehold.config.settings.production",
        "SECRET_KEY": "a-key-of-the-test-0123456789-abcdefghijklmnopqrstuvwxyz",
        "FREEHOLD_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "ALLOWED_HOSTS": "freehold.example",
    }
    done = subprocess.run([sys.executable, "-c", CHECKS], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
