"""Where an installation's files go, and when they go elsewhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from freehold.common import ports
from freehold.onebox import down as down_module
from freehold.onebox import layout as layout_module
from freehold.onebox.credentials import Credentials
from freehold.onebox.down import clean
from freehold.onebox.environment import environment
from freehold.onebox.layout import ELSEWHERE, Layout, others_may_enter

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_closed_folder_above_keeps_others_out(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not others_may_enter(closed / "deep" / "data")


def test_data_lies_under_home_where_others_can_enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FREEHOLD_DATA")
    monkeypatch.setattr(layout_module, "others_may_enter", lambda path: True)
    assert Layout.of(tmp_path).data == tmp_path / "data"


def test_root_puts_data_elsewhere_where_others_cannot_enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FREEHOLD_DATA")
    monkeypatch.setattr(layout_module, "drops_privileges", lambda: True)
    monkeypatch.setattr(layout_module, "others_may_enter", lambda path: False)
    layout = Layout.of(tmp_path)
    assert layout.data.parent.parent == ELSEWHERE
    assert layout.is_elsewhere


def test_a_long_path_gets_a_short_private_folder_for_its_sockets(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / ("long" * 30))
    assert len(str(layout.socket)) < 90


def test_what_was_there_before_is_never_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "somebodys"
    (data / "thesis").mkdir(parents=True)
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FREEHOLD_DATA", str(data))
    Layout.of().create()
    assert Layout.of().not_ours == [data]
    assert clean() == 1
    assert str(data) in capsys.readouterr().out
    assert (data / "thesis").is_dir()
    assert (tmp_path / "home").is_dir()


def test_folders_that_were_new_or_empty_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FREEHOLD_DATA", str(data))
    monkeypatch.setattr(down_module, "down", lambda: 0)
    monkeypatch.setattr(down_module, "engine_folder", lambda: tmp_path / "none")
    monkeypatch.setattr(down_module, "ROOT", tmp_path)
    for _ in range(2):  # the second time they hold files, and the mark
        Layout.of().create()
    assert clean() == 0
    assert not data.exists()
    assert not (tmp_path / "home").exists()


def test_only_web_and_gateway_leave_loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FREEHOLD_HOST", "0.0.0.0")  # noqa: S104 - what somebody might configure
    reloaded = importlib.reload(ports)
    try:
        variables = environment(Layout.of(tmp_path), Credentials.generate(), inherited={})
        assert reloaded.HOST not in "".join(variables.values())
    finally:
        monkeypatch.undo()
        importlib.reload(ports)
