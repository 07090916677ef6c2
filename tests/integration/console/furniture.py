"""Things to look at on the console: models with real files, imports in every state, a catalog."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from freehold.common import clock
from freehold.common.errors import Conflict
from freehold.db.rls import tenant_scope
from freehold.registry import imports, services
from freehold.registry.choices import ImportFileStatus, ImportKind, ImportStatus
from freehold.registry.models import ImportFile, ModelImport, Revision
from freehold.registry.trees import Add
from freehold.serving.catalog import document
from freehold.serving.catalog.services import catalog_load
from freehold.tenancy.models import Tenant
from tests.factories.tenants import SYSTEM, actor_in

CATALOG = """
version: 1
models:
  - id: Qwen/Qwen3-8B
    title: Qwen3 8B
    family: qwen3
    publisher: Alibaba Cloud (Qwen)
    origin: CN
    licence:
      id: Apache-2.0
      name: Apache License 2.0
      url: https://www.apache.org/licenses/LICENSE-2.0
      commercial_use: 'yes'
    gated: false
    kind: chat
    modalities: [text]
    parameters: {total: 8190735360}
    weights: {bytes: 16381470720, basis: computed, dtype: bfloat16, format: safetensors}
    context_length: 40960
    languages: [en, zh]
    upstream_revision: 0123456789abcdef0123456789abcdef01234567
    arguments: {enable_auto_tool_choice: true, tool_call_parser: hermes, reasoning_parser: qwen3}
    recommended_flavors:
      - {accelerator: L40S, accelerators: 1, basis: computed}
    min_vllm: 0.8.5
    sources:
      - {url: 'https://huggingface.co/Qwen/Qwen3-8B', for: [id, licence]}
    note: Thinking is switched on per request.
  - id: meta-llama/Llama-3.3-70B-Instruct
    title: Llama 3.3 70B Instruct
    family: llama-3
    publisher: Meta
    origin: US
    licence:
      id: LicenseRef-Llama-3.3
      name: Llama 3.3 Community License
      url: https://www.llama.com/llama3_3/license/
      commercial_use: conditional
      note: Say “Built with Llama”.
    gated: true
    custom_code: true
    kind: chat
    modalities: [text]
    parameters: {total: 70553706496}
    weights: {dtype: bfloat16, format: safetensors}
    context_length: 131072
    exclude: [original/*]
    arguments: {}
    sources:
      - {url: 'https://huggingface.co/meta-llama/Llama-3.3-70B-Instruct', for: [id, licence]}
"""


def load_catalog() -> None:
    """Two models on offer."""
    catalog_load(actor=SYSTEM, catalog=document.load(CATALOG))


def upload(tenant: Tenant, name: str, files: Mapping[str, bytes], *, message: str = "Upload") -> Revision:
    """Commits files to `main`, as an upload does; the model is made if need be."""
    actor = actor_in(tenant)
    with suppress(Conflict):
        services.model_create(actor=actor, tenant_id=tenant.pk, name=name)
    entries = services.contents_add(actor=actor, tenant_id=tenant.pk, contents=list(files.values()))
    operations = [Add(path=path, entry=entry) for path, entry in zip(files, entries, strict=True)]
    return services.revision_commit(actor=actor, tenant_id=tenant.pk, repo=name, operations=operations, message=message)


def begin_import(tenant: Tenant, name: str = "copy", *, token: str = "") -> ModelImport:
    """An import that nobody has begun to work on."""
    return imports.import_create(
        actor=actor_in(tenant),
        tenant_id=tenant.pk,
        name=name,
        kind=ImportKind.HUB,
        source={"url": "https://hub.example", "repo": "owner/original"},
        credentials={"token": token} if token else None,
        exclude=["original/*"],
    )


def work_on(found: ModelImport, status: ImportStatus, *, message: str = "") -> None:
    """What a worker would have written: two files, one of them half here, and one left out."""
    over = status in {ImportStatus.SUCCEEDED, ImportStatus.FAILED, ImportStatus.CANCELLED}
    _change(found, status=status.value, message=message, started_at=clock.now(), pinned="c" * 40)
    _change(found, finished_at=clock.now() if over else None)
    files: list[dict[str, Any]] = [
        {"path": "config.json", "size": 700, "received": 700, "status": ImportFileStatus.DONE.value},
        {"path": "model.safetensors", "size": 8_000_000, "received": 2_000_000},
        {
            "path": "pytorch_model.bin",
            "size": 9_000_000,
            "status": ImportFileStatus.SKIPPED.value,
            "note": "is a pickle",
        },
    ]
    with tenant_scope(found.tenant_id):
        for file in files:
            ImportFile.objects.create(tenant_id=found.tenant_id, model_import=found, **file)


def _change(found: ModelImport, **values: Any) -> None:
    with tenant_scope(found.tenant_id):
        ModelImport.objects.filter(pk=found.pk).update(**values)
