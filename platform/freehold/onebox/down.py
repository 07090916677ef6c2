"""`make down` ends every process of an installation; `make clean` also removes its data and the environments."""

from __future__ import annotations

import shutil
from pathlib import Path

from freehold.onebox.layout import ELSEWHERE, ROOT, Layout, engine_folder, short_hash
from freehold.onebox.report import Report
from freehold.onebox.stack import Stack, StackFailed


def down() -> int:
    """Returns the exit status."""
    layout, report = Layout.of(), Report()
    try:
        was_running = Stack(layout).is_running()
        stragglers = Stack(layout).stop()
    except StackFailed as problem:
        report.plain(f"error: {problem}")
        return 1
    if stragglers:
        report.plain(f"Ended {stragglers} processes that had been left behind.")
    report.plain(
        "Stopped. No process is left; the data is kept." if was_running or stragglers else "Nothing is running."
    )
    return 0


def clean() -> int:
    """Stops everything, then removes FREEHOLD_HOME, data and the engine's environment. The Makefile removes .venv.

    Touches nothing where one of the folders held something before us.
    """
    layout = Layout.of()
    if layout.not_ours:
        for folder in layout.not_ours:
            print(f"error: {folder} held other files before Freehold came. Remove what you do not need by hand.")
        return 1
    status = down()
    if status:
        return status
    for folder in (layout.data, layout.run, layout.home, engine_folder()):
        _remove(folder)
    link = ROOT / ".venv-engine"
    if link.is_symlink():
        link.unlink()
    for path in (layout.home, ROOT):
        parent = ELSEWHERE / f"freehold-{short_hash(path)}"
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return 0


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
        print(f"Removed {folder}", flush=True)
