"""What every process of an installation finds in its environment. Called by up.py, seed and the end-to-end tests."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from freehold.common import ports
from freehold.onebox.interpreter import library_path
from freehold.onebox.layout import ENGINE_UID, ROOT, Layout, drops_privileges, engine_folder
from freehold.onebox.postgres import APP, DATABASE, OWNER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.onebox.credentials import Credentials

_LOOPBACK = "127.0.0.1,localhost"


def environment(
    layout: Layout, credentials: Credentials, *, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables of docs/configuration.md for this installation, on top of what we were started with."""
    host = f"{ports.LOOPBACK}:{ports.POSTGRES}/{DATABASE}"
    values = {
        "PATH": inherited.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "freehold.config.settings.onebox",
        "DATABASE_URL": f"postgresql://{APP}:{credentials.postgres_app}@{host}",
        "DATABASE_MIGRATE_URL": f"postgresql://{OWNER}:{credentials.postgres_owner}@{host}",
        "REDIS_URL": f"redis://:{credentials.redis}@{ports.LOOPBACK}:{ports.REDIS}/0",
        "SECRET_KEY": credentials.secret_key,
        "FREEHOLD_ENCRYPTION_KEYS": credentials.encryption_key,
        "FREEHOLD_HOME": str(layout.home),
        "FREEHOLD_DATA": str(layout.data),
        "FREEHOLD_INSTANCE": layout.instance,
        "FREEHOLD_PORT_OFFSET": str(ports.OFFSET),
        "FREEHOLD_PUBLIC_URL": f"http://{ports.ADDRESS}:{ports.WEB}",
        "FREEHOLD_GATEWAY_URL": f"http://{ports.ADDRESS}:{ports.GATEWAY}",
        "FREEHOLD_REGION": "local",
        "FREEHOLD_LOG_JSON": "0",
        "OBJECT_STORE_PATH": str(layout.data / "objects"),
        "GATEWAY_STATE": str(layout.data / "gateway"),
        "GATEWAY_ID": "local-0",
        "GATEWAY_SHIP_SECONDS": "2",  # the control plane ends first, and the journal stays on this disk
        "SPT_NOENV": "1",  # setproctitle would overwrite the environment by which reap.py finds a process
        "NO_PROXY": _LOOPBACK,
        "no_proxy": _LOOPBACK,
        **engine_variables(),
    }
    unwanted = {"PYTHONOPTIMIZE", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
    kept = {name: value for name, value in inherited.items() if name not in unwanted}
    return {**kept, **values}


def engine_digest() -> str:
    """What endpoints on this machine pin: the digest of the engine's lock file."""
    return "sha256:" + hashlib.sha256((ROOT / "requirements" / "engine.lock").read_bytes()).hexdigest()


def engine_variables() -> dict[str, str]:
    """How the local runtime starts an engine. Where none is installed its starts fail, and the endpoint says so."""
    folder = engine_folder()
    variables = {
        "FREEHOLD_ENGINE_PYTHON": str(folder / "bin" / "python"),
        "FREEHOLD_ENGINE_DIGEST": engine_digest(),
    }
    if path := library_path(folder):
        variables["FREEHOLD_ENGINE_LD_LIBRARY_PATH"] = path
    if drops_privileges():
        variables["FREEHOLD_ENGINE_UID"] = str(ENGINE_UID)
    return variables
