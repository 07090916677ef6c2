"""What all settings share. Every value that differs between installations comes from the environment
(docs/configuration.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from freehold.common import env, ports

ROOT = Path(__file__).resolve().parents[4]


def database(url: str, *, pooled: bool) -> dict[str, Any]:
    """postgresql://user:password@host:port/name → Django's dictionary."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise env.ConfigurationError(
            f"A database URL must be postgresql://user:password@host:port/name, not {parts.scheme}://…"
        )
    options: dict[str, Any] = {"application_name": "freehold"}
    size = env.integer("DATABASE_POOL_SIZE", 10) if pooled else 0
    if size:
        # psycopg_pool doubles its pauses between attempts for as long as `reconnect_timeout` (300 s by default), and
        # nobody else may try meanwhile: after an outage of a minute it would stay away for up to another.
        options["pool"] = {"min_size": 0, "max_size": size, "timeout": 10, "reconnect_timeout": 5}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or 5432),
        "OPTIONS": options,
        "ATOMIC_REQUESTS": False,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
    }


SECRET_KEY = env.text("SECRET_KEY")
ENCRYPTION_KEYS = env.listing("FREEHOLD_ENCRYPTION_KEYS")
DEBUG = False
ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS", "127.0.0.1,localhost")

# `default` is the application's role: no superuser, no owner, under row-level security. Only migrations use `owner`.
DATABASES: dict[str, dict[str, Any]] = {"default": database(env.text("DATABASE_URL"), pooled=True)}
if _migrate_url := env.text("DATABASE_MIGRATE_URL", ""):
    DATABASES["owner"] = database(_migrate_url, pooled=False)

PUBLIC_URL = env.text("FREEHOLD_PUBLIC_URL", f"http://{ports.ADDRESS}:{ports.WEB}").rstrip("/")
HUB_URL = env.text("FREEHOLD_HUB_URL", "").rstrip("/")  # where engines' fetchers come by, if that is another
GATEWAY_URL = env.text("FREEHOLD_GATEWAY_URL", f"http://{ports.ADDRESS}:{ports.GATEWAY}").rstrip("/")
FREEHOLD_HOME = Path(env.text("FREEHOLD_HOME", str(ROOT / ".freehold")))
FREEHOLD_DATA = Path(env.text("FREEHOLD_DATA", str(FREEHOLD_HOME / "data")))
OBJECT_STORE_PATH = Path(env.text("OBJECT_STORE_PATH", str(FREEHOLD_DATA / "objects")))
# Set S3_BUCKET, and content goes there instead (docs/storage.md).
S3_BUCKET = env.text("S3_BUCKET", "")
S3_PREFIX = env.text("S3_PREFIX", "")
S3_REGION = env.text("S3_REGION", "us-east-1")
S3_ENDPOINT_URL = env.text("S3_ENDPOINT_URL", "")
S3_PUBLIC_ENDPOINT_URL = env.text("S3_PUBLIC_ENDPOINT_URL", "")
S3_ACCESS_KEY_ID = env.text("S3_ACCESS_KEY_ID", "")
S3_SECRET_ACCESS_KEY = env.text("S3_SECRET_ACCESS_KEY", "")
S3_ADDRESSING_STYLE = env.text("S3_ADDRESSING_STYLE", "auto")
STORAGE_QUOTA_BYTES = env.integer("STORAGE_QUOTA_GIB", 0) * 1024**3 or None  # of a tenant that has none of its own
UPLOAD_KEEP_HOURS = env.integer("UPLOAD_KEEP_HOURS", 7 * 24)  # unfinished uploads, content without a revision
IMPORT_ALLOW = env.listing("IMPORT_ALLOW", "")  # networks and hosts, besides public addresses, to import from
CURRENCY = env.text("FREEHOLD_CURRENCY", "EUR")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "freehold.db",
    "freehold.audit",
    "freehold.tenancy",
    "freehold.registry",
    "freehold.fleet",
    "freehold.serving",
    "freehold.metering",
    "freehold.billing",
    "freehold.operations",
    "freehold.api",
    "freehold.hub",
    "freehold.console",
]

MIDDLEWARE = [
    "freehold.config.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "freehold.console.middleware.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "freehold.console.middleware.SignInThrottleMiddleware",
    "freehold.config.middleware.OperatorScopeMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

ROOT_URLCONF = "freehold.config.urls"
ASGI_APPLICATION = "freehold.config.asgi.application"
AUTH_USER_MODEL = "tenancy.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "console:login"
LOGIN_REDIRECT_URL = "console:home"
LOGOUT_REDIRECT_URL = "console:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
APPEND_SLASH = False

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
LANGUAGE_CODE = "en"
STATIC_URL = "static/"
STATIC_ROOT = Path(env.text("FREEHOLD_STATIC_ROOT", str(FREEHOLD_DATA / "static")))
WHITENOISE_USE_FINDERS = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["freehold.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "freehold.api.problem.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Freehold",
    "DESCRIPTION": "Sovereign open-weight model hosting: models, endpoints, keys, usage.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
}

LOGGING_CONFIG = None  # structlog, configured once by each process (common.logging)
