"""The account that databases run under: `nobody` where we are root (PostgreSQL refuses root), else our own."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.onebox.layout import DATABASE_USER, drops_privileges

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Account:
    """What subprocess takes; all None: stay who we are."""

    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] | None = None

    def own(self, path: Path) -> None:
        """Makes `path` this account's."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def database_account() -> Account:
    """Who runs PostgreSQL and Redis."""
    if not drops_privileges():
        return Account()
    entry = pwd.getpwnam(DATABASE_USER)
    return Account(user=entry.pw_uid, group=entry.pw_gid, groups=())


def bare_environment() -> dict[str, str]:
    """What a database finds in its environment: no secret of ours, but the mark by which it can be found."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"}
    if instance := os.environ.get("FREEHOLD_INSTANCE"):
        environment["FREEHOLD_INSTANCE"] = instance
    return environment
