"""Where an installation's files go, and when they go elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.onebox import layout as layout_module
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
