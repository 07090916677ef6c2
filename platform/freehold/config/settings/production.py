"""Production: behind TLS, as the Helm chart installs it. `manage.py check --deploy` passes with these."""

from urllib.parse import urlsplit

from freehold.common import env
from freehold.config.settings import base
from freehold.config.settings.base import *  # noqa: F403 - settings are layered by import, Django's own convention

ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS]
if _hub_host := urlsplit(base.HUB_URL).hostname:
    ALLOWED_HOSTS.append(_hub_host)
MIDDLEWARE = [
    "freehold.config.security.SecurityMiddleware" if name == "django.middleware.security.SecurityMiddleware" else name
    for name in base.MIDDLEWARE
]
SILENCED_SYSTEM_CHECKS = ["security.W001"]  # looks for Django's own by its name; ours is a subclass
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
WHITENOISE_USE_FINDERS = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
