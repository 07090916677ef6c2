"""Secrets of one installation, made once: `.freehold/secrets.json`, mode 600. Called by up.py."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Credentials:
    """What nobody else may know. All are text that is safe inside a URL."""

    postgres_superuser: str
    postgres_owner: str
    postgres_app: str
    redis: str
    secret_key: str
    encryption_key: str
    operator_password: str
    admin_password: str

    @classmethod
    def generate(cls) -> Credentials:
        """Fresh ones."""
        values = {field.name: secrets.token_urlsafe(24) for field in fields(cls)}
        values["secret_key"] = secrets.token_urlsafe(48)
        values["encryption_key"] = Fernet.generate_key().decode()
        return cls(**values)

    @classmethod
    def of(cls, file: Path) -> Credentials:
        """Those in `file`; missing ones (all, the first time) are made and written."""
        known = {field.name for field in fields(cls)}
        stored = json.loads(file.read_text()) if file.exists() else {}
        credentials = cls(**{**asdict(cls.generate()), **{key: value for key, value in stored.items() if key in known}})
        if asdict(credentials) != stored:
            write_private(file, asdict(credentials))
        return credentials


def write_private(file: Path, content: object) -> None:
    """Writes JSON that only its owner may read, whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(file)
