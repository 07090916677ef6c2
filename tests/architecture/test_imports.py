"""The import contracts of docs/architecture.md hold, and the source root stays no package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_source_root_is_not_a_package() -> None:
    """With platform/__init__.py the standard library's `platform` is shadowed and even `import uuid` fails."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_import_contracts_hold() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_package_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for source in ("platform/freehold", "workers")
        for path in (ROOT / source).rglob("__init__.py")
        if path.parent.name != "migrations" and not path.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


def test_only_one_file_names_a_port() -> None:
    """Everything listens where common/ports.py says."""
    literal = {"8400", "8401", "8402", "8403", "8410", "8411"}
    named = [
        str(path.relative_to(ROOT))
        for source in ("platform/freehold", "workers")
        for path in (ROOT / source).rglob("*.py")
        if path.name != "ports.py" and any(port in path.read_text() for port in literal)
    ]
    assert named == []


def test_processes_without_a_kubernetes_cluster_do_not_load_its_client() -> None:
    """It weighs some 25 MB in each of them."""
    script = "import sys, workers.app, workers.tasks, workers.watch.clusters; print('kubernetes' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "False", result.stdout + result.stderr
