"""`make bench`: every benchmark, one after the other; `python -m benchmarks.<name>` for one."""

from __future__ import annotations

from benchmarks import gateway, onebox, reconcile, registry, routing

onebox.main()
registry.main()
reconcile.main()
gateway.main()
routing.main()
