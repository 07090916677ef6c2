"""The embedded PostgreSQL: roles, rights, and running its preparation twice."""

from __future__ import annotations

import psycopg
import pytest

from freehold.onebox.postgres import APP, OWNER, SUPERUSER, EmbeddedPostgres

DATABASE = "freehold_test"


def test_the_application_is_neither_superuser_nor_owner_nor_beyond_row_level_security(
    postgres: EmbeddedPostgres,
) -> None:
    with psycopg.connect(postgres.url(APP, DATABASE)) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        owner = connection.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row == (False, False, False, False)
    assert owner == (OWNER,)


def test_the_application_may_write_what_the_owner_makes_later_but_not_change_it(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url(OWNER, DATABASE), autocommit=True) as owner:
        owner.execute("CREATE TABLE made_later (id bigserial, word text)")
        try:
            with psycopg.connect(postgres.url(APP, DATABASE), autocommit=True) as application:
                application.execute("INSERT INTO made_later (word) VALUES ('yes')")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    application.execute("ALTER TABLE made_later ADD COLUMN more text")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    application.execute("CREATE TABLE mine (id int)")
        finally:
            owner.execute("DROP TABLE made_later")


def test_preparing_twice_changes_nothing(postgres: EmbeddedPostgres) -> None:
    postgres.prepare(DATABASE)
    with psycopg.connect(postgres.url(SUPERUSER, DATABASE)) as connection:
        assert connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'").fetchone() == (1,)


def test_a_wrong_password_is_refused(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url(APP, DATABASE).replace(postgres.passwords.app, "wrong"))
