"""1,000 endpoints of 100 tenants in one Kubernetes cluster: what a worker spends on them.

`python -m benchmarks.reconcile`. The worker is `celery worker` as the product starts it, with one process for tasks;
its CPU is that of parent and child from /proc. PostgreSQL and Redis are real; the cluster is the tests' emulator in a
process of its own, which makes pods ready at once and counts requests. Figures to reach:

- converged from nothing: ≤ 60 s of worker CPU, ≤ 5 writes an endpoint and ≤ 9 a tenant;
- a resync of all of them converged: 0 writes, ≤ 5 s of CPU, one list per kind (in pages of 500), no read of an object;
- from a hint to the first apply of a new endpoint among them: p95 ≤ 1 s;
- the worker's process for tasks: ≤ 250 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.onebox import Figure
from benchmarks.transfer import freehold
from freehold.onebox.layout import ROOT

TENANTS, EACH = 100, 10


def main() -> None:
    """Prints the table."""
    found = figures()
    width = max(len(figure.name) for figure in found)
    for figure in found:
        print(f"{figure.name:<{width}}  {figure.value:>28}  {figure.goal}")


def figures() -> list[Figure]:
    """Starts everything, lets the driver measure, and reads what it prints."""
    with tempfile.TemporaryDirectory(prefix="freehold-bench-", dir="/var/tmp") as name:
        home = Path(name)
        home.chmod(0o755)
        with freehold(home / "freehold") as hub, _cluster() as url:
            driver = [sys.executable, "-m", "benchmarks.reconcile_driver", url, str(TENANTS), str(EACH)]
            output = subprocess.run(
                driver, cwd=ROOT, env=dict(hub.environment), check=True, stdout=subprocess.PIPE, text=True
            ).stdout
    return _table(json.loads(output.splitlines()[-1]))


@contextmanager
def _cluster() -> Iterator[str]:
    """The emulator's address."""
    command = [sys.executable, "-m", "tests.fakes.kubernetes", "--port", "0", "--nodes", "200", "--auto-ready"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def _table(found: dict[str, Any]) -> list[Figure]:
    count = TENANTS * EACH
    name = f"{count:,} endpoints of {TENANTS} tenants"
    lists = ", ".join(f"{kind} {times}" for kind, times in sorted(found["resync_lists"].items()))
    return [
        Figure(f"{name} converged from nothing: worker CPU", f"{found['converge_cpu']:.1f} s", "≤ 60 s"),
        Figure("  and by the clock", f"{found['converge_seconds']:.1f} s", ""),
        Figure("  API writes an endpoint", f"{found['writes_endpoint'] / count:.2f}", "≤ 5"),
        Figure("  API writes a tenant", f"{found['writes_tenant'] / TENANTS:.2f}", "≤ 9"),
        Figure("resync of all of them converged: worker CPU", f"{found['resync_cpu']:.2f} s", "≤ 5 s"),
        Figure("  and by the clock", f"{found['resync_seconds']:.2f} s", ""),
        Figure("  API writes", str(found["resync_writes"]), "0"),
        Figure("  reads of one object", str(found["resync_reads"]), "0"),
        Figure("  requests a list, in pages of 500", lists, "one list per kind"),
        Figure("hint to first apply, p50", f"{found['first_apply_p50']:.2f} s", ""),
        Figure("hint to first apply, p95", f"{found['first_apply_p95']:.2f} s", "≤ 1 s"),
        Figure("worker RSS (process for tasks), highest", f"{found['rss_peak'] / 1e6:.0f} MB", "≤ 250 MB"),
        Figure("worker RSS (process for tasks), afterwards", f"{found['rss'] / 1e6:.0f} MB", "≤ 250 MB"),
    ]


if __name__ == "__main__":
    main()
