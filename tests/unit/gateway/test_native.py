"""Which build of the compiled modules is used, and that none is where anything does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.common import env
from freehold.gateway import native, process

NAMES = ["tiny.sums", "tiny.words"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sources of two modules and of one that they import."""
    package = tmp_path / "root" / "tiny"
    package.mkdir(parents=True)
    for name in ("sums", "words", "limits"):
        (package / f"{name}.py").write_text(f"NAME = {name!r}\n")
    return package.parent


@pytest.fixture
def builds(tmp_path: Path, root: Path) -> Path:
    """A folder with a build of those modules; what it is made of nobody loads here."""
    place(tmp_path / "builds" / "one", root)
    return tmp_path / "builds"


def place(build: Path, root: Path, **changes: Any) -> Path:
    """A build of the sources as they are now."""
    build.mkdir(parents=True)
    (build / "tiny.so").write_bytes(b"\x7fELF")
    manifest = {
        "made_for": native.made_for(),
        "modules": NAMES,
        "sources": {f"tiny/{file.name}": native.digest(file) for file in (root / "tiny").iterdir()},
        "files": {"tiny.so": native.digest(build / "tiny.so")},
    }
    (build / native.MANIFEST).write_text(json.dumps(manifest | changes))
    return build


def why_not(builds: Path, root: Path) -> str:
    """What is said of the build that does not fit."""
    with pytest.raises(native.Unfit) as refused:
        native.find(builds, NAMES, root)
    return str(refused.value)


def test_a_build_of_these_sources_is_used(builds: Path, root: Path) -> None:
    assert native.find(builds, NAMES, root) == builds / "one"


@pytest.mark.parametrize("module", ["sums", "limits"])
def test_an_edited_source_is_never_shadowed(builds: Path, root: Path, module: str) -> None:
    (root / "tiny" / f"{module}.py").write_text("NAME = 'edited'\n")
    assert why_not(builds, root) == f"tiny/{module}.py is not what it was when it was made."


def test_a_source_that_is_gone_makes_it_unfit(builds: Path, root: Path) -> None:
    (root / "tiny" / "limits.py").unlink()
    assert "tiny/limits.py" in why_not(builds, root)


def _without_manifest(build: Path) -> None:
    (build / native.MANIFEST).unlink()


def _half_a_manifest(build: Path) -> None:
    text = (build / native.MANIFEST).read_bytes()
    (build / native.MANIFEST).write_bytes(text[: len(text) // 2])


def _a_manifest_of_something_else(build: Path) -> None:
    (build / native.MANIFEST).write_text("[]")


def _half_a_library(build: Path) -> None:
    (build / "tiny.so").write_bytes(b"\x7f")


def _without_library(build: Path) -> None:
    (build / "tiny.so").unlink()


@pytest.mark.parametrize(
    "harm", [_without_manifest, _half_a_manifest, _a_manifest_of_something_else, _half_a_library, _without_library]
)
def test_what_was_cut_off_or_damaged_is_not_used(builds: Path, root: Path, harm: Callable[[Path], None]) -> None:
    harm(builds / "one")
    assert why_not(builds, root)


def test_a_build_for_another_python_is_not_used(builds: Path, root: Path) -> None:
    (builds / "one").rename(builds.parent / "away")
    place(builds / "two", root, made_for="cpython-399")
    assert why_not(builds, root) == "It was made for another Python or machine: cpython-399."


def test_a_build_of_other_modules_is_not_used(builds: Path, root: Path) -> None:
    with pytest.raises(native.Unfit, match="other modules"):
        native.find(builds, ["tiny.sums"], root)


def test_a_build_that_is_under_way_is_not_used(builds: Path, root: Path) -> None:
    (builds / "one").rename(builds / ".build-one")
    assert why_not(builds, root) == "There is none."


def test_going_back_to_older_sources_finds_their_build(builds: Path, root: Path) -> None:
    before = (root / "tiny" / "sums.py").read_text()
    (root / "tiny" / "sums.py").write_text("NAME = 'edited'\n")
    place(builds / "two", root)
    assert native.find(builds, NAMES, root).name == "two"
    (root / "tiny" / "sums.py").write_text(before)
    assert native.find(builds, NAMES, root).name == "one"


def test_without_a_build_the_gateway_runs_uncompiled(tmp_path: Path) -> None:
    assert native.use({}, tmp_path) is False
    assert native.use({"GATEWAY_NATIVE": "off"}, tmp_path) is False
    assert not native.in_use()


def test_a_gateway_that_requires_a_build_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(env.ConfigurationError, match=r"GATEWAY_NATIVE=require.*There is none\..*make native"):
        native.use({"GATEWAY_NATIVE": "require"}, tmp_path)


def test_a_build_that_cannot_be_loaded_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / f"{native.LIBRARY}{native.SUFFIX}").write_bytes(b"\x7fELF")
    monkeypatch.setattr(native, "find", lambda builds: builds)
    monkeypatch.setattr(native, "compiled", list)
    finders = list(sys.meta_path)
    assert native.use({}, tmp_path) is False
    assert "cannot be loaded" in native.why_not()
    with pytest.raises(env.ConfigurationError, match="cannot be loaded"):
        native.use({"GATEWAY_NATIVE": "require"}, tmp_path)
    assert sys.meta_path == finders


def test_a_mode_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(env.ConfigurationError, match="none of auto, off and require"):
        native.use({"GATEWAY_NATIVE": "yes"}, tmp_path)


def test_every_module_named_is_there() -> None:
    assert list(native.MODULES) == sorted(set(native.MODULES))
    sources = [native.ROOT / f"{name.replace('.', '/')}.py" for name in native.compiled()]
    assert [source for source in sources if not source.is_file()] == []


def test_a_process_imports_none_of_them_before_it_decides() -> None:
    code = "import sys, freehold.gateway.process; print(*sys.modules)"
    variables = {"PYTHONPATH": str(native.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "freehold.gateway.native" in imported
    assert imported.isdisjoint(native.compiled())


def test_an_import_that_came_too_early_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "find", lambda builds: builds)
    monkeypatch.setitem(sys.modules, native.compiled()[0], sys)
    finders = list(sys.meta_path)
    with pytest.raises(RuntimeError, match=native.compiled()[0]):
        native.use({}, tmp_path)
    assert sys.meta_path == finders
    assert not native.in_use()


def test_a_process_that_requires_a_build_and_has_none_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(builds: Path) -> Path:
        raise native.Unfit("There is none.")

    monkeypatch.setattr(native, "find", none)
    monkeypatch.setenv("GATEWAY_NATIVE", "require")
    assert process.main() == 1
    assert capsys.readouterr().err.startswith("The gateway cannot start: GATEWAY_NATIVE=require, but")
