"""`/healthz` (this process answers) and `/readyz` (it should be sent requests) of the web process.

Answered before anything else looks at a request: a probe comes by the pod's address, which is none of ALLOWED_HOSTS,
without TLS and without a session.

Ready means that PostgreSQL answers and has the schema that this code was written for. Redis is looked at and reported,
but being without it does not take a process out of service: everything that people do here lies in PostgreSQL, a hint
or publication that is lost is made up for by the resync, and of all pages the console must not be the one that goes.
"""

from __future__ import annotations

from collections.abc import Callable

import redis
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse

from freehold.db import connections
from freehold.wire import connection as wire


class HealthMiddleware:
    """The first of all middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._migrated = False  # once it is, it stays: what a newer version adds does not concern this one

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Any method: a probe's HEAD is as good as its GET."""
        if request.path == "/healthz":
            return _told(200, "ok")
        if request.path == "/readyz":
            problem = self._problem()
            return _told(503 if problem else 200, problem or "ready", _redis())
        return self._get_response(request)

    def _problem(self) -> str:
        """Why no requests should come here now; empty where they may."""
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            if not self._migrated:
                executor = MigrationExecutor(connection)
                missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
                if missing:
                    return f"the database lacks {len(missing)} migrations: run freehold_migrate"
                self._migrated = True
        except DatabaseError:
            return "the database does not answer"
        finally:
            connections.release()
        return ""


def _redis() -> str:
    try:
        wire.client().ping()
    except redis.RedisError:
        return "redis does not answer (what people do here goes on)"
    return "redis answers"


def _told(status: int, *lines: str) -> HttpResponse:
    return HttpResponse("".join(f"{line}\n" for line in lines), status=status, content_type="text/plain")
