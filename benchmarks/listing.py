"""A tenant with 10,000 models: how fast a page of them comes, over HTTP, from the REST API and from the hub.

Figure to reach: p95 ≤ 50 ms.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import httpx

from benchmarks.onebox import Figure
from benchmarks.transfer import freehold
from freehold.onebox.layout import ROOT

MODELS = 10_000
CALLS = 200

# Rows as commits write them; the way there would take an hour.
_SEED = """
import django; django.setup(set_prefix=False)
import sys, uuid
from freehold.db.rls import tenant_scope
from freehold.registry.models import ModelFile, ModelRepo, Ref, Revision
from freehold.tenancy.selectors import tenant_by_slug
tenant = tenant_by_slug(slug="acme")
facts = {"architecture": "Qwen3ForCausalLM", "task": "generate", "parameters": 8_000_000_000, "licence": "apache-2.0",
         "config": {f"key_{number}": number for number in range(400)}}
with tenant_scope(tenant.pk):
    for start in range(0, int(sys.argv[1]), 1000):
        repos = [ModelRepo(tenant=tenant, name=f"model-{number:05}") for number in range(start, start + 1000)]
        revisions = [Revision(tenant=tenant, repo=repo, commit_id=uuid.uuid4().hex + "0" * 8, message="first",
                              author="bench", status="verified", digest="d" * 64, inspection=facts) for repo in repos]
        files = [ModelFile(tenant=tenant, revision=revision, path=path, size=1000, sha256=uuid.uuid4().hex * 2,
                           oid="0" * 40, lfs=True)
                 for revision in revisions for path in ("config.json", "model.safetensors")]
        ModelRepo.objects.bulk_create(repos)
        Revision.objects.bulk_create(revisions)
        Ref.objects.bulk_create([Ref(tenant=tenant, repo=revision.repo, kind="branch", name="main", revision=revision)
                                 for revision in revisions])
        ModelFile.objects.bulk_create(files)
"""


def main() -> None:
    """Prints the table."""
    for figure in figures():
        print(f"{figure.name:<60}  {figure.value:>12}  {figure.goal}")


def figures() -> list[Figure]:
    """Pages spread over the whole list, one after the other over one connection."""
    with tempfile.TemporaryDirectory(prefix="freehold-bench-", dir="/var/tmp") as name:
        home = Path(name)
        home.chmod(0o755)
        with freehold(home / "freehold") as hub:
            seed = [sys.executable, "-c", _SEED, str(MODELS)]
            subprocess.run(seed, cwd=ROOT, env=dict(hub.environment), check=True)
            with httpx.Client(base_url=hub.url, headers={"Authorization": f"Bearer {hub.token}"}, timeout=30) as client:
                return [
                    *_figures("REST, 100 models a page", _rest(client, limit=100)),
                    *_figures("REST, 20 models a page (default)", _rest(client, limit=20)),
                    *_figures("hub, list_models, 100 a page", _hub(client, {"limit": "100"})),
                    *_figures("hub, list_models, search", _hub(client, {"limit": "100", "search": "model-0123"})),
                ]


def _figures(name: str, times: list[float]) -> list[Figure]:
    p95 = quantiles(times, n=20)[-1]
    return [
        Figure(f"{MODELS:,} models: {name}, p50", f"{median(times) * 1000:.1f} ms", ""),
        Figure(f"{MODELS:,} models: {name}, p95", f"{p95 * 1000:.1f} ms", "≤ 50 ms"),
    ]


def _rest(client: httpx.Client, *, limit: int) -> list[float]:
    times: list[float] = []
    cursor: str | None = None
    while len(times) < CALLS:
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        started = time.perf_counter()
        answer = client.get("/api/v1/models", params=query)
        times.append(time.perf_counter() - started)
        answer.raise_for_status()
        cursor = answer.json()["next_cursor"]
    return times[5:]


def _hub(client: httpx.Client, query: dict[str, str]) -> list[float]:
    times: list[float] = []
    url: str = str(httpx.URL("/api/models", params=query))
    address = url
    while len(times) < CALLS:
        started = time.perf_counter()
        answer = client.get(address)
        times.append(time.perf_counter() - started)
        answer.raise_for_status()
        assert answer.json()
        address = answer.links["next"]["url"] if "next" in answer.links else url
    return times[5:]


if __name__ == "__main__":
    main()
