"""Makes the two environments from their lock files: `python3 -m freehold.onebox.install onebox|dev [engine]`.

Run by the Makefile with whatever Python 3.11 there is, before anything is installed: standard library only. An
environment that matches its lock file is left alone (a stamp file holds the lock's hash). Both are installed
side by side; without an engine the platform still comes up, so only a failing platform is an error.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.onebox.interpreter import copy_needed, copy_prefix, library_path
from freehold.onebox.layout import ROOT, engine_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

PLATFORM = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
ENGINE_STAMP = ".freehold-lock"
ENGINE_BYTES = 5_000_000_000  # while installing: wheels, their contents and pip's cache
PLATFORM_BYTES = 1_000_000_000
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_SHARDS = 2  # most of pip's time is spent reading indexes, on one core
# A third of all source: tests, and models that transformers imports one at a time.
_NOT_COMPILED = r"/tests?/|/torch/testing/|/transformers/models/(?!__init__|auto/|bert/|qwen|llama/)"
_ADVICE = "The platform works without it, but cannot serve models on this machine. `make up` tries again."


class InstallationFailed(Exception):
    """An environment could not be made; the message says why and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status. Arguments: `onebox` or `dev`, and `engine`."""
    engine_failed: list[str] = []
    engine = threading.Thread(target=_try_engine, args=[engine_failed])
    if "engine" in arguments:
        engine.start()
    try:
        for name in arguments:
            if name != "engine":
                install_platform(name)
    except InstallationFailed as problem:
        _say(f"error: {problem}")
        return 1
    finally:
        if engine.ident is not None:
            engine.join()
    for message in engine_failed:
        _say(f"The engine is missing: {message}\n{_ADVICE}")
    return 0


def install_platform(name: str) -> None:
    """Brings .venv up to requirements/<name>.lock. `dev` contains `onebox`, so it satisfies that too."""
    wanted = {candidate: _lock_hash(REQUIREMENTS / f"{candidate}.lock") for candidate in {name, "dev"}}
    if any(_stamped(PLATFORM, f".freehold-{candidate}", digest) for candidate, digest in wanted.items()):
        return
    started = time.monotonic()
    _space(ROOT, PLATFORM_BYTES)
    _say(f"Installing the platform into .venv ({name}.lock) …")
    if not (PLATFORM / "bin" / "python").exists():
        _run([sys.executable, "-m", "venv", str(PLATFORM)])
    _pip(PLATFORM, ["--require-hashes", "-r", str(REQUIREMENTS / f"{name}.lock")])
    (PLATFORM / f".freehold-{name}").write_text(wanted[name])
    _say(f"The platform is installed ({time.monotonic() - started:.0f} s).")


def install_engine() -> None:
    """Brings .venv-engine up to requirements/engine.lock, out of the checkout where nobody else could enter it."""
    folder, link, lock = engine_folder(), ROOT / ".venv-engine", REQUIREMENTS / "engine.lock"
    digest = _lock_hash(lock)
    if _stamped(folder, ENGINE_STAMP, digest):
        return
    started = time.monotonic()
    _space(folder, ENGINE_BYTES)
    _say("Installing the engine, vLLM for the CPU, into .venv-engine (2 GB; a few minutes) …")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    if folder != link:
        _say(f"Engines run as an unprivileged user, who cannot enter {ROOT}: .venv-engine is a link to {folder}.")
        _relink(link, folder)
    python = copy_prefix(folder / "base") if copy_needed() else Path(sys.executable)
    environment = engine_environment(folder)
    _run([str(python), "-m", "venv", "--without-pip", str(folder)], environment)
    _install_shards(folder, lock.read_text(), environment)
    _compile(folder, environment)
    (folder / ENGINE_STAMP).write_text(digest)
    _say(f"The engine is installed ({time.monotonic() - started:.0f} s).")


def engine_environment(folder: Path) -> dict[str, str]:
    """Our environment, and the copied interpreter's shared library where there is one."""
    path = library_path(folder)
    return {**os.environ, "LD_LIBRARY_PATH": path} if path else dict(os.environ)


def engine_python() -> Path | None:
    """The engine's interpreter, or None where the engine is not installed."""
    folder = engine_folder()
    return folder / "bin" / "python" if (folder / ENGINE_STAMP).exists() else None


def shards(lock: str, number: int) -> list[str]:
    """Splits a lock file into parts that can be installed side by side, since it is complete and needs no resolving."""
    entries: list[str] = []
    for line in lock.splitlines(keepends=True):
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            entries[-1] += line
        else:
            entries.append(line)
    # torch takes longest: it has the fewest companions.
    entries.sort(key=lambda entry: (not entry.startswith("torch=="), entry))
    cut = len(entries) * 2 // 5
    return ["".join(entries[:cut]), "".join(entries[cut:])] if number > 1 else ["".join(entries)]


def _install_shards(folder: Path, lock: str, environment: dict[str, str]) -> None:
    failures: list[InstallationFailed] = []

    def install(part: Path) -> None:
        options = ["--no-deps", "--require-hashes", "--no-compile", "-r", str(part)]
        try:
            _pip(folder, options, environment)
        except InstallationFailed as problem:
            if "No matching distribution found for torch" not in str(problem):
                failures.append(problem)
                return
            try:
                _pip(folder, ["--extra-index-url", _TORCH_INDEX, *options], environment)
            except InstallationFailed as again:
                failures.append(again)

    with tempfile.TemporaryDirectory() as temporary:
        threads = []
        for number, text in enumerate(shards(lock, _SHARDS)):
            part = Path(temporary) / f"{number}.txt"
            part.write_text(text)
            threads.append(threading.Thread(target=install, args=[part]))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _compile(folder: Path, environment: dict[str, str]) -> None:
    """The unprivileged user cannot write .pyc files, and vLLM takes half a minute longer without them."""
    # Some packages carry templates and tests that are no valid Python: a file that cannot be compiled is no failure.
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    workers = str(os.cpu_count() or 1)
    subprocess.run(
        [str(folder / "bin" / "python"), "-m", "compileall", "-q", "-j", workers, "-x", _NOT_COMPILED, str(packages)],
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _try_engine(failed: list[str]) -> None:
    try:
        install_engine()
    except InstallationFailed as problem:
        failed.append(str(problem))
    except OSError as problem:
        failed.append(f"{problem}.")


def _pip(environment_folder: Path, options: list[str], environment: dict[str, str] | None = None) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment_folder / "bin" / "python"),
        "install",
        "--quiet",
    ]
    _run([*command, "--no-input", "--no-warn-script-location", *options], environment)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line and not line.startswith("WARNING")]
        tail = "\n  ".join(lines[-8:])
        raise InstallationFailed(f"`{' '.join(command[1:4])} …` ended with status {done.returncode}:\n  {tail}")


def _space(folder: Path, needed: int) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InstallationFailed(
            f"{folder} has {free / 1e9:.1f} GB free and {needed / 1e9:.0f} GB are needed. Make room, then try again."
        )


def _relink(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    link.symlink_to(target)


def _lock_hash(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest() if lock.exists() else "missing"


def _stamped(folder: Path, stamp: str, digest: str) -> bool:
    file = folder / stamp
    return file.exists() and file.read_text() == digest


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
