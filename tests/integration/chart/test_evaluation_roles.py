"""The chart's own PostgreSQL: what its init script makes of an empty server is what an installation needs."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from freehold.onebox.postgres import APP, DATABASE, OWNER, SUPERUSER, EmbeddedPostgres, Passwords, binaries
from tests.factories import charts
from tests.factories.charts import CHART, pick
from tests.factories.ports import free_port

ROOT = CHART.parents[1]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server as the official image has it when the script runs: a superuser, an empty database, nothing else."""
    with tempfile.TemporaryDirectory(prefix="freehold-chart-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        made = EmbeddedPostgres(
            Path(folder) / "postgres",
            port=free_port(),
            passwords=Passwords(*(secrets.token_urlsafe(16) for _ in range(3))),
            durable=False,
        )
        try:
            made.start()
            with psycopg.connect(made.url(SUPERUSER, "postgres"), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {DATABASE}")
                connection.execute(f"DROP ROLE {OWNER}")
                connection.execute(f"DROP ROLE {APP}")
                connection.execute(f"CREATE DATABASE {DATABASE}")
            _initialise(made, Path(folder))
            yield made
        finally:
            made.stop()


def _initialise(server: EmbeddedPostgres, folder: Path) -> None:
    configmap = pick(charts.rendered("evaluation"), "ConfigMap", "freehold-postgresql")
    script = folder / "roles.sh"
    script.write_text(configmap["data"]["roles.sh"])
    environment = {
        "PATH": f"{binaries(near=server.folder)}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.passwords.superuser,
        "POSTGRES_USER": SUPERUSER,
        "POSTGRES_DB": DATABASE,
        "OWNER_PASSWORD": server.passwords.owner,
        "APP_PASSWORD": server.passwords.app,
    }
    script.chmod(0o555)
    done = subprocess.run([str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def manage(server: EmbeddedPostgres, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the installation, with the environment that the chart gives it."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "freehold.config.settings.production",
        "DATABASE_URL": server.url(APP),
        "DATABASE_MIGRATE_URL": server.url(OWNER),
        "DATABASE_POOL_SIZE": "0",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "FREEHOLD_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "ALLOWED_HOSTS": "freehold.example.com",
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *command],
        env=environment, capture_output=True, text=True, check=False, cwd="/", timeout=100,
    )  # fmt: skip


def test_neither_role_is_above_row_level_security(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url(SUPERUSER)) as connection:
        roles = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = ANY(%s)",
            [[OWNER, APP]],
        ).fetchall()
    assert sorted(roles) == [(APP, False, False, False, False), (OWNER, False, False, False, False)]


def test_the_application_can_make_no_tables(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url(APP)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (id int)")


def test_pods_wait_until_the_job_has_migrated_and_then_start(server: EmbeddedPostgres) -> None:
    early = manage(server, "migrations_wait", "--timeout", "0")
    assert early.returncode != 0
    assert "not applied" in early.stderr
    migrated = manage(server, "freehold_migrate")
    assert migrated.returncode == 0, migrated.stderr
    late = manage(server, "migrations_wait", "--timeout", "0")
    assert late.returncode == 0, late.stderr
    with psycopg.connect(server.url(APP)) as connection:
        assert connection.execute("SELECT count(*) FROM tenancy_tenant").fetchone() == (0,)
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [(OWNER,)]
