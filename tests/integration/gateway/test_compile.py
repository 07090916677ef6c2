"""Compiling with the real mypyc and C compiler: two small modules that use a third, uncompiled one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.gateway import compile as compiling
from freehold.gateway import native

pytestmark = pytest.mark.native

NAMES = ["tiny.words", "tiny.inner.sums"]
SOURCES = {
    "__init__.py": "",
    "limits.py": "from typing import Final\n\nMOST: Final = 3\n",
    "inner/__init__.py": "",
    "inner/sums.py": """\
from tiny.limits import MOST


def most() -> int:
    return MOST


class Sum:
    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, more: int) -> int:
        self.value += more
        return self.value
""",
    "words.py": """\
from tiny.inner.sums import Sum


def counted(words: list[str]) -> int:
    total = Sum(0)
    for word in words:
        total.add(len(word))
    return total.value
""",
    "apart.py": "",
}
# Loads a build as a gateway process does, and tells what came of it.
LOADED = """
import json, sys, traceback
from pathlib import Path
from freehold.gateway import native
sys.meta_path.insert(0, native.Finder(Path(sys.argv[1]), ["tiny__mypyc", *sys.argv[2:]]))
import tiny.words, tiny.inner.sums, tiny.limits
try:
    tiny.words.counted([3])
except TypeError as error:
    where = traceback.format_tb(error.__traceback__)[-1]
files = [module.__spec__.origin for module in (tiny.words, tiny.inner.sums, tiny.limits)]
built_with = [name for name in sys.modules if name.partition(".")[0] in {"mypy", "mypyc", "mypy_extensions", "librt"}]
print(json.dumps([tiny.words.counted(["ab", "c"]), files, where, built_with]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `root`, where the sources are, and `builds`, where their build is."""
    folder = tmp_path_factory.mktemp("native")
    for name, text in SOURCES.items():
        file = folder / "root" / "tiny" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    ensure(folder)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same, for a test that changes it."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def ensure(folder: Path) -> Path:
    """What `python -m freehold.gateway.compile` does, for these modules."""
    return compiling.ensure(NAMES, group="tiny", root=folder / "root", builds=folder / "builds")


def test_compiled_modules_are_what_is_imported_and_nothing_else_is(made: Path) -> None:
    build = native.find(made / "builds", NAMES, made / "root")
    variables = {"PYTHONPATH": f"{native.ROOT}:{made / 'root'}"}
    command = [sys.executable, "-c", LOADED, str(build), *NAMES]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    counted, files, where, built_with = json.loads(done.stdout)
    assert counted == 3
    assert files == [
        f"{build}/tiny/words{native.SUFFIX}",
        f"{build}/tiny/inner/sums{native.SUFFIX}",
        f"{made}/root/tiny/limits.py",
    ]
    assert built_with == []
    # A mistake is told with the source's own file and line.
    assert f'File "{made}/root/tiny/words.py", line 6, in counted' in where
    assert "for word in words:" in where


def test_what_is_built_is_not_built_again(made: Path) -> None:
    (build,) = (entry for entry in (made / "builds").iterdir() if entry.is_dir())
    before = build.stat()
    assert ensure(made) == build
    assert build.stat() == before


def test_all_that_was_read_of_our_own_makes_the_build(copied: Path) -> None:
    """mypyc has copied the constant of a module that is not compiled itself."""
    (copied / "root/tiny/apart.py").write_text("# Nobody imports it.\n")
    native.find(copied / "builds", NAMES, copied / "root")
    (copied / "root/tiny/limits.py").write_text("from typing import Final\n\nMOST: Final = 4\n")
    with pytest.raises(native.Unfit, match=r"tiny/limits\.py is not what it was"):
        native.find(copied / "builds", NAMES, copied / "root")


def test_a_build_that_was_damaged_or_cut_off_is_made_again(copied: Path) -> None:
    (build,) = (entry for entry in (copied / "builds").iterdir() if entry.is_dir())
    (build / f"tiny__mypyc{native.SUFFIX}").write_bytes(b"")
    (copied / "builds/.build-of-one-that-was-killed/c").mkdir(parents=True)
    again = ensure(copied)
    assert native.find(copied / "builds", NAMES, copied / "root") == again
    assert list((copied / "builds").glob(".build-*")) == []


def test_what_mypyc_does_not_compile_is_said_with_its_place(copied: Path) -> None:
    (copied / "root/tiny/words.py").write_text(
        "class Lost(OSError):\n    pass\n\n\nasync def f() -> int:\n    return ''\n"
    )
    with pytest.raises(compiling.CannotBuild, match=r"tiny/words\.py:6: error"):
        ensure(copied)
    assert list((copied / "builds").glob(".build-*")) == []


def test_a_machine_without_a_compiler_is_told_how_to_get_one(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "root/tiny/words.py").write_text("")
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(compiling.CannotBuild, match=r"no C compiler `no-such-compiler`: apt-get install gcc"):
        ensure(copied)


def test_the_command_tells_what_is_missing_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiling.main(tmp_path) == 1
    assert "apt-get install gcc" in capsys.readouterr().err


def test_the_command_does_nothing_where_a_build_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert compiling.main() == 0
    assert capsys.readouterr().out == "The compiled gateway is up to date.\n"


def test_builds_do_not_pile_up(copied: Path) -> None:
    for number in range(3):
        old = copied / "builds" / str(number)
        old.mkdir()
        (old / native.MANIFEST).write_text("{}")
    (copied / "root/tiny/words.py").write_text("def one() -> int:\n    return 1\n")
    build = ensure(copied)
    left = [entry for entry in (copied / "builds").iterdir() if entry.is_dir()]
    assert build in left
    assert len(left) == 2
