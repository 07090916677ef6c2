"""A Python that an unprivileged user may run. Standard library only; used by install.py.

pyenv and uv keep interpreters under the home folder of their owner, /root for root, where no other user can enter: an
engine under another uid could not even execute Python. Then the needed part of the prefix is copied into the engine's
own environment, some 60 MB.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from freehold.onebox.layout import drops_privileges, others_may_enter

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LEFT_OUT = ("test", "site-packages", "dist-packages", "config-*", "idlelib", "turtledemo", "tkinter", "lib2to3")


def copy_needed() -> bool:
    """Whether the interpreter that runs this is out of an unprivileged user's reach."""
    base = Path(sys.base_prefix)
    return drops_privileges() and not others_may_enter(Path(os.path.realpath(base)) / "lib" / _VERSION / "os.py")


def copy_prefix(target: Path) -> Path:
    """Copies the interpreter, its shared library and its standard library to `target`. Returns the new executable."""
    base = Path(os.path.realpath(sys.base_prefix))
    if target.exists():
        shutil.rmtree(target)
    (target / "bin").mkdir(parents=True)
    executable = target / "bin" / _VERSION
    shutil.copy2(base / "bin" / _VERSION, executable)
    (target / "lib").mkdir()
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, target / "lib" / library.name)
    shutil.copytree(
        base / "lib" / _VERSION, target / "lib" / _VERSION, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT)
    )
    return executable


def library_path(engine: Path) -> str:
    """LD_LIBRARY_PATH for the engine's processes; empty where they use the machine's own Python.

    The copied interpreter still looks for its shared library where it was built; this goes first.
    """
    copied = engine / "base" / "lib"
    return str(copied) if any(copied.glob("libpython*.so*")) else ""
