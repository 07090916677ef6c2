"""Real PostgreSQL and Redis for every test that asks, and the rules for tests that need an engine, a browser or a
compiled gateway.

Both databases are the embedded ones of `make up`, started once a session in a temporary folder on free ports. Django's
default connection is the application's role (no superuser, not the owner), so that row-level security is really tested.
Fixtures:

- `db` (pytest-django): the test runs in a transaction that is rolled back.
- `committed_db`: the test commits for real (on_commit, other connections, threads); afterwards every table is emptied.
- `postgres`, `redis_url`, `redis_client`: the servers themselves; `redis_client` is emptied afterwards.
- `engine_variables`: how to start vLLM, for tests marked `engine`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import django
import psycopg
import pytest
import redis
from psycopg import sql
from pytest_django.plugin import DjangoDbBlocker

from freehold.common import env
from freehold.gateway import native
from freehold.onebox import environment as onebox_environment
from freehold.onebox.install import engine_python
from freehold.onebox.postgres import APP, OWNER, SUPERUSER, EmbeddedPostgres, Passwords
from freehold.onebox.reap import reap
from freehold.onebox.redis import EmbeddedRedis
from tests.factories.ports import free_port

_TEMPORARY = Path("/var/tmp")  # pytest's own temporary folders are closed to `nobody`, who runs PostgreSQL under root
_PREFIX = "freehold-tests-"
_DATABASE = "freehold_test"
_KEPT = ("django_migrations", "django_content_type", "auth_permission")  # filled by migrations


def _sweep() -> None:
    """Ends and removes what test sessions left behind that were killed."""
    for folder in _TEMPORARY.glob(f"{_PREFIX}*"):
        owner = re.fullmatch(rf"{_PREFIX}(\d+)-.*", folder.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            reap(str(folder), seconds=5)
            shutil.rmtree(folder, ignore_errors=True)


def _required(name: str) -> bool:
    """Whether it fails a test that this is missing."""
    return name in env.listing("FREEHOLD_REQUIRE")


_sweep()
_home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_TEMPORARY))
_home.chmod(0o755)
(_home / "static").mkdir()  # STATIC_ROOT: WhiteNoise warns where it is missing
_postgres = EmbeddedPostgres(
    _home / "postgres",
    port=free_port(),
    passwords=Passwords(*(secrets.token_urlsafe(16) for _ in range(3))),
    durable=False,
)
_redis = EmbeddedRedis(_home / "redis", port=free_port(), password=secrets.token_urlsafe(16), durable=False)

# Before Django reads its settings, which is why this is not a fixture.
os.environ.update(
    {
        "DJANGO_SETTINGS_MODULE": "freehold.config.settings.test",
        "DATABASE_URL": _postgres.url(APP, _DATABASE),
        "DATABASE_MIGRATE_URL": _postgres.url(OWNER, _DATABASE),
        "REDIS_URL": _redis.url,
        "FREEHOLD_HOME": str(_home),
        "FREEHOLD_DATA": str(_home),
        "FREEHOLD_INSTANCE": str(_home),
        "GATEWAY_NATIVE": "require" if _required("native") else os.environ.get("GATEWAY_NATIVE", "auto"),
        "HF_HUB_DISABLE_XET": "1",
        "SPT_NOENV": "1",
    }
)


def pytest_configure() -> None:
    """Django's apps are ready before test modules import their models."""
    django.setup(set_prefix=False)


def pytest_xdist_setupnodes() -> None:
    """Each process of a parallel run has servers of its own, and reads its settings only once it knows their ports."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is missing skips a test, or fails it where FREEHOLD_REQUIRE names it (as `.ci/run` does)."""
    missing = {
        "engine": "" if engine_python() else "vLLM is not installed in .venv-engine; `make test` installs it",
        "browser": "" if shutil.which("chromium") else "Chromium is not installed: apt-get install chromium",
        "native": _no_native(),
    }
    for name, reason in missing.items():
        if reason and item.get_closest_marker(name):
            if _required(name):
                pytest.fail(f"FREEHOLD_REQUIRE names {name}, but {reason}", pytrace=False)
            pytest.skip(reason)


@cache
def _no_native() -> str:
    """Why no compiled gateway can be had; empty where one is there."""
    try:
        native.find()
    except native.Unfit as why:
        return f"there is no compiled gateway that fits; `make native` builds one. {why}"
    return ""


def pytest_unconfigure() -> None:
    """Nothing outlives the session: databases, engines, temporary files."""
    if "django.db" in sys.modules:
        from django.db import connections
        from django.db.backends.postgresql.base import DatabaseWrapper

        for connection in connections.all(initialized_only=True):
            connection.close()
            if isinstance(connection, DatabaseWrapper):
                connection.close_pool()
    _postgres.stop()
    _redis.stop()
    reap(str(_home), seconds=10)
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> EmbeddedPostgres:
    """A running PostgreSQL with an empty database `freehold_test`, its roles and pgvector."""
    _postgres.start()
    _postgres.prepare(_DATABASE)
    return _postgres


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The address of a running Redis."""
    _redis.start()
    return _redis.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the running Redis, which is emptied afterwards."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.flushall()


@pytest.fixture(scope="session")
def django_db_setup(postgres: EmbeddedPostgres, redis_url: str, django_db_blocker: DjangoDbBlocker) -> None:
    """Replaces pytest-django's: migrates once as the owner, exactly as an installation does."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        call_command("freehold_migrate", verbosity=0)


@pytest.fixture
def committed_db(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, postgres: EmbeddedPostgres
) -> Iterator[None]:
    """Database access with real commits; every table is emptied afterwards. Not together with `db`."""
    from django.db import connections

    with django_db_blocker.unblock():
        try:
            yield
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()
            _empty_tables(postgres)


@pytest.fixture(scope="session")
def engine_variables() -> dict[str, str]:
    """FREEHOLD_ENGINE_*, for tests marked `engine`."""
    return onebox_environment.engine_variables()


def _empty_tables(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url(SUPERUSER, _DATABASE), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # append-only tables guard themselves by triggers
        connection.execute("SET lock_timeout = '10s'")
        tables = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> ALL(%s)",
            [list(_KEPT)],
        ).fetchall()
        if tables:
            names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in tables)
            connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(_redis.url) as client:
        client.flushall()
