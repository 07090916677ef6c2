"""`python -m freehold.gateway.compile`: builds the compiled modules (native.py) with mypyc, and does nothing where a
build fits already. Needs mypy, setuptools and a C compiler with Python's headers, which running the gateway does not.

A build is made in a hidden folder and gets its manifest and its name when it is complete; one that was cut off is swept
up by the next. Those in use stay: the newest other one is kept for processes that start just now.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from freehold.gateway import native

_SETUP = """\
import json
from setuptools import setup
from mypyc.build import mypycify

given = json.load(open("given.json"))
setup(name="native", ext_modules=mypycify(given["options"], target_dir="c", opt_level="2", debug_level="0",
      group_name=given["group"]), script_args=["build_ext", "--build-lib", "out", "--build-temp", "objects"])
"""
# Not the project's, whose plugins want Django. Whether types are right is `make lint`'s business.
_MYPY = """\
[mypy]
mypy_path = {root}
explicit_package_bases = True
namespace_packages = True
ignore_missing_imports = True
follow_imports = silent
"""
# Nobody replaces a function of the library at run time, which the compiler has to expect unless told so.
_FLAGS = "-fno-semantic-interposition -fvisibility=hidden"


class CannotBuild(Exception):
    """The message says what is missing, or what mypyc or the compiler said."""


def missing() -> list[str]:
    """What a build needs and this machine lacks, each with how to get it."""
    lacks = [
        f"{name} is not installed for {sys.executable}: requirements/build.lock and requirements/dev.lock have it."
        for name in ("mypy", "setuptools")
        if find_spec(name) is None
    ]
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(command[0]) is None:
        lacks.append(f"There is no C compiler `{command[0]}`: apt-get install gcc libc6-dev, or name another in CC.")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        lacks.append(f"Python's headers are missing ({header}): apt-get install python3-dev, for a Python of Debian's.")
    return lacks


def ensure(
    names: Sequence[str], *, group: str = native.GROUP, root: Path = native.ROOT, builds: Path = native.BUILDS
) -> Path:
    """The build that fits, made where there is none. One at a time; whoever comes meanwhile waits and takes it over.

    Args:
        names: full names of the modules.
        group: of the library they share, which is called `<group>__mypyc`.
        root: the folder their packages lie in.

    Raises:
        CannotBuild: something is missing, or the modules are not what mypyc compiles.
        SyntaxError: a module is not even Python.
        OSError: from the disk.
    """
    builds.mkdir(exist_ok=True)
    with _alone(builds):
        if (build := _current(names, root, builds)) is not None:
            return build
        if lacks := missing():
            raise CannotBuild("\n".join(lacks))
        for leftover in builds.glob(".build-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=builds) as work:
            build = _build(Path(work), names, group, root)
            placed = builds / native.digest(build / native.MANIFEST)[:16]
            if placed.exists():  # what was built lies there damaged
                shutil.rmtree(placed)
            build.rename(placed)
        _forget(builds, placed)
        return placed


def read_by(names: Sequence[str], root: Path) -> list[Path]:
    """Sources that the outcome depends on: the modules', and of all that they import from their own packages, at
    whatever remove, since mypyc copies constants and believes types. Relative to the root, sorted."""
    packages = {name.partition(".")[0] for name in names}
    found: set[Path] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        file = _source(name, root)
        if name.partition(".")[0] not in packages or file is None or file in found:
            continue
        found.add(file)
        waiting += _imports(ast.parse((root / file).read_bytes(), filename=str(file)))
    return sorted(found)


def main(builds: Path = native.BUILDS) -> int:
    """Entry point. Returns the exit code."""
    names, started = native.compiled(), time.monotonic()
    if _current(names, native.ROOT, builds) is not None:
        _say("The compiled gateway is up to date.")
        return 0
    _say(f"Compiling the gateway's hot path, {len(names)} modules: about a minute.")
    try:
        build = ensure(names, builds=builds)
    except (CannotBuild, SyntaxError, OSError) as error:
        sys.stderr.write(f"The gateway was not compiled; it runs without, more slowly.\n{error}\n")
        return 1
    size = sum(file.stat().st_size for file in build.rglob("*"))
    _say(f"The gateway is compiled ({time.monotonic() - started:.0f} s, {size / 1e6:.1f} MB).")
    return 0


def _build(work: Path, names: Sequence[str], group: str, root: Path) -> Path:
    """Compiles in the folder and returns the build below it. Raises CannotBuild."""
    sources = _digests(names, root)
    config = work / "mypy.ini"
    config.write_text(_MYPY.format(root=root))
    modules = [str(root / file) for file in (_source(name, root) for name in names) if file is not None]
    if len(modules) != len(names):
        raise CannotBuild(f"Not all of these modules are below {root}: {', '.join(names)}.")
    options = ["--config-file", str(config), *modules]
    (work / "given.json").write_text(json.dumps({"options": options, "group": group}))
    (work / "setup.py").write_text(_SETUP)
    environ = {**os.environ, "CFLAGS": f"{os.environ.get('CFLAGS', '')} {_FLAGS}".strip()}
    done = subprocess.run(
        [sys.executable, "setup.py"],
        cwd=work,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotBuild(done.stdout.strip())
    if sources != _digests(names, root):
        raise CannotBuild("A source was changed meanwhile. Compile again.")
    build = work / "out"
    files = {str(file.relative_to(build)): native.digest(file) for file in sorted(build.rglob(f"*{native.SUFFIX}"))}
    manifest = {
        "made_for": native.made_for(),
        "made_by": _maker(),
        "modules": list(names),
        "sources": sources,
        "files": files,
    }
    (build / native.MANIFEST).write_text(json.dumps(manifest, indent=1))
    return build


def _current(names: Sequence[str], root: Path, builds: Path) -> Path | None:
    """The build that fits, if it was made as it would be now: those that run it need not care, whoever builds does."""
    try:
        build = native.find(builds, names, root)
        return build if json.loads((build / native.MANIFEST).read_bytes()).get("made_by") == _maker() else None
    except (native.Unfit, OSError):
        return None


def _maker() -> str:
    """mypyc and what it is told."""
    with suppress(PackageNotFoundError):
        return f"mypy {version('mypy')} {hashlib.sha256((_SETUP + _MYPY + _FLAGS).encode()).hexdigest()}"
    return ""


def _digests(names: Sequence[str], root: Path) -> dict[str, str]:
    return {str(file): native.digest(root / file) for file in read_by(names, root)}


def _source(name: str, root: Path) -> Path | None:
    """Of a module or a package, relative to the root; None if there is none."""
    path = Path(*name.split("."))
    candidates = path.with_suffix(".py"), path / "__init__.py"
    return next((each for each in candidates if (root / each).is_file()), None)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names that may be modules. Imports are absolute here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _forget(builds: Path, placed: Path) -> None:
    """Removes all builds but this one and the newest other."""
    others = [
        entry for entry in builds.iterdir() if entry.is_dir() and not entry.name.startswith(".") and entry != placed
    ]
    others.sort(key=native.made_at, reverse=True)
    for folder in others[1:]:
        shutil.rmtree(folder, ignore_errors=True)  # a leftover does no harm


@contextmanager
def _alone(builds: Path) -> Iterator[None]:
    with (builds / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
