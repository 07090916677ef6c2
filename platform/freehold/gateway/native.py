"""The compiled form of the modules that every request passes through, where there is one that fits.

mypyc makes C of those modules as they are (compile.py); uncompiled they do the same, at nearly twice the CPU. Only the
process that serves uses it (process.py), before it imports any of them.

A build is a folder below `_native` that says in its manifest what it was made of and for. It is used if all of that is
still so to the byte, and never otherwise: an edited source is not shadowed by an old binary, and a build that was cut
off, which has no manifest or the wrong files, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from freehold.common import env

PACKAGE = "freehold.gateway"
MODULES = (  # below PACKAGE; CONTRIBUTING.md has what may stand in them
    "admission.admission",
    "admission.answers",
    "admission.ask",
    "admission.holdings",
    "admission.link",
    "admission.plans",
    "admission.prices",
    "admission.ticket",
    "app",
    "auth",
    "exchange",
    "http1",
    "journal",
    "meter",
    "metrics",
    "relay",
    "reply",
    "routing.budget",
    "routing.health",
    "routing.memory",
    "routing.order",
    "routing.prefix",
    "routing.replicas",
    "routing.router",
    "slots",
    "surface.answers",
    "surface.bodies",
    "surface.call",
    "surface.frames",
    "surface.plain",
    "surface.relayed",
    "surface.sse",
    "upstream",
    "waiting",
)
GROUP = "freehold_gateway"
LIBRARY = f"{GROUP}__mypyc"  # where the code of all modules is; mypyc's name for it
ROOT = Path(__file__).parents[2]
BUILDS = Path(__file__).with_name("_native")
MANIFEST = "manifest.json"
SUFFIX = EXTENSION_SUFFIXES[0]

_ADVICE = "`make native` (python -m freehold.gateway.compile) builds it; GATEWAY_NATIVE=auto does without."
_outcome = {"reason": "It was not asked for."}  # empty where compiled modules are in use


class Unfit(Exception):
    """A build must not be used; the message says why."""


def compiled(modules: Sequence[str] = MODULES) -> list[str]:
    """Full names of the modules."""
    return [f"{PACKAGE}.{module}" for module in modules]


def made_for() -> str:
    """The interpreter and machine that a build is good for."""
    return f"{sys.implementation.cache_tag} {sys.version} {sys.platform} {os.uname().machine}"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check(build: Path, names: Sequence[str], root: Path = ROOT) -> None:
    """Raises Unfit unless the build is whole and made of these modules, as their sources are now.

    Args:
        root: the folder that the manifest's sources are relative to.
    """
    try:
        manifest = json.loads((build / MANIFEST).read_bytes())
        recorded, sources, files = manifest["made_for"], manifest["sources"], manifest["files"]
    except FileNotFoundError:
        raise Unfit("It is not complete.") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Unfit(f"Its manifest cannot be read: {error!r}") from None
    if recorded != made_for():
        raise Unfit(f"It was made for another Python or machine: {recorded}.")
    if manifest.get("modules") != list(names):
        raise Unfit("It was made of other modules.")
    for folder, hashes in ((build, files), (root, sources)):
        for name, expected in hashes.items():
            try:
                found = digest(folder / name)
            except OSError:
                found = ""
            if found != expected:
                raise Unfit(f"{name} is not what it was when it was made.")


def made_at(build: Path) -> int:
    """Nanoseconds since 1970; 0 where it has just been removed."""
    try:
        return build.stat().st_mtime_ns
    except OSError:
        return 0


def find(builds: Path = BUILDS, names: Sequence[str] | None = None, root: Path = ROOT) -> Path:
    """The build that fits. Raises Unfit, with what the newest one lacks."""
    names = compiled() if names is None else names
    reason = Unfit("There is none.")
    try:
        folders = [entry for entry in builds.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        folders.sort(key=made_at)
    except OSError:
        folders = []
    for folder in folders:
        try:
            check(folder, names, root)
        except Unfit as why:
            reason = why
        else:
            return folder
    raise reason


def use(environ: Mapping[str, str] = os.environ, builds: Path = BUILDS) -> bool:
    """From now on imports of these modules find compiled ones, if GATEWAY_NATIVE allows it and a build fits.

    Returns:
        Whether they do; `in_use` and `why_not` know it from then on.

    Raises:
        env.ConfigurationError: it is required and there is none, or the variable cannot be understood.
        RuntimeError: one of the modules is imported already, and half of each would not fit together.
    """
    mode = env.text("GATEWAY_NATIVE", "auto", environ=environ)
    if mode not in {"auto", "off", "require"}:
        raise env.ConfigurationError(f"GATEWAY_NATIVE={mode!r} is none of auto, off and require.")
    if mode == "off":
        _outcome["reason"] = "GATEWAY_NATIVE=off"
        return False
    try:
        _load(find(builds))
    except Unfit as why:
        if mode == "require":
            raise env.ConfigurationError(
                f"GATEWAY_NATIVE=require, but no compiled gateway fits. {why} {_ADVICE}"
            ) from None
        _outcome["reason"] = str(why)
        return False
    _outcome["reason"] = ""
    return True


def _load(build: Path) -> None:
    """Raises Unfit where the library cannot be loaded: the file system forbids it, or the machine's libraries are
    others; RuntimeError as `use`."""
    if early := [name for name in compiled() if name in sys.modules]:
        raise RuntimeError(f"Imported before the compiled modules were to be used: {', '.join(early)}.")
    finder = Finder(build, [LIBRARY, *compiled()])
    sys.meta_path.insert(0, finder)
    try:
        import_module(LIBRARY)
    except ImportError as error:
        sys.meta_path.remove(finder)
        raise Unfit(f"{build} cannot be loaded: {error}.") from None


def in_use() -> bool:
    """Whether this process runs compiled modules."""
    return not _outcome["reason"]


def why_not() -> str:
    """Why it runs none; empty where it does."""
    return _outcome["reason"]


class Finder:
    """Has imports of these modules, and of no others, find the build's (sys.meta_path)."""

    def __init__(self, build: Path, names: Sequence[str]) -> None:
        self._files = {name: f"{build.joinpath(*name.split('.'))}{SUFFIX}" for name in names}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder has it."""
        file = self._files.get(fullname)
        return None if file is None else spec_from_file_location(fullname, file)
