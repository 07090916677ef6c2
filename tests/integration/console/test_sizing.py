"""“Will it fit?” on the console: a panel for htmx, a page without."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.db.rls import tenant_scope
from freehold.fleet import services as fleet
from freehold.registry.models import Revision
from freehold.tenancy.models import Tenant
from tests.factories.tenants import SYSTEM, make_revision
from tests.integration.console.people import Person

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151_936,
    "torch_dtype": "bfloat16",
}
FACTS: dict[str, Any] = {"config": CONFIG, "dtypes": {"BF16": 8_190_735_360}, "parameters": 8_190_735_360}


@pytest.fixture
def path(acme: Tenant) -> str:
    """A model of 8 billion parameters, an accelerator that holds it and one that does not."""
    for name, gib in (("l40s", 48), ("tiny", 8)):
        fleet.flavor_create(actor=SYSTEM, name=name, accelerator=name.upper(), memory_bytes=gib * 1024**3)
    revision = make_revision(acme, "qwen")
    with tenant_scope(acme.pk):
        Revision.objects.filter(pk=revision.pk).update(inspection={**FACTS, "context": {"longest": 40_960}})
    return f"/console/models/{revision.repo.public_id}"


def test_the_overview_loads_the_panel(path: str, viewer: Person) -> None:
    page = viewer.get(path).text
    assert f'hx-get="{path}/sizing" hx-trigger="load"' in page
    panel = viewer.get(f"{path}/sizing", htmx=True).text
    assert panel.startswith('<section class="card" id="sizing"')
    assert "<nav" not in panel


def test_each_flavor_is_judged_and_explained(path: str, viewer: Person) -> None:
    panel = viewer.get(f"{path}/sizing?context=32768&concurrency=2", htmx=True).text
    assert panel.index("<strong>l40s</strong>") < panel.index("<strong>tiny</strong>")
    for shown in ('value="32768"', "fits</span>", "too small</span>", "are missing on each accelerator", "<ol"):
        assert shown in panel
    assert "The model reads at most 40,960 tokens" in viewer.get(f"{path}/sizing?context=99999", htmx=True).text


def test_without_scripts_it_is_a_page(path: str, viewer: Person) -> None:
    page = viewer.get(f"{path}/sizing?concurrency=4")
    assert page.status == 200
    assert "<nav" in page.text
    assert "<strong>l40s</strong>" in page.text


@pytest.mark.parametrize("asked", ["context=0", "concurrency=x", "context=9999999999", "kv_cache_dtype=int1"])
def test_what_is_wrong_is_said_at_its_field(path: str, viewer: Person, asked: str) -> None:
    page = viewer.get(f"{path}/sizing?{asked}")
    assert page.status == 400
    field = page.text[page.text.index(f'id="id_{asked.partition("=")[0]}"') :].partition('<div class="field')[0]
    assert 'class="error"' in field
    assert viewer.get(f"{path}/sizing?{asked}", htmx=True).status == 200


def test_a_model_that_cannot_be_sized_says_why(acme: Tenant, viewer: Person) -> None:
    revision = make_revision(acme, "bare")
    path = f"/console/models/{revision.repo.public_id}"
    assert "Will it fit?" not in viewer.get(path).text
    page = viewer.get(f"{path}/sizing")
    assert page.status == 409
    assert "cannot be sized" in page.text


def test_a_foreign_model_is_not_found(rival: Tenant, viewer: Person) -> None:
    revision = make_revision(rival, "secret")
    assert viewer.get(f"/console/models/{revision.repo.public_id}/sizing").status == 404
