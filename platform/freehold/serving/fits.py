"""Which of the operator's flavors hold a revision: sizing, given what inspection found and what the fleet has. Read by
the REST API and the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from freehold.common.errors import Conflict
from freehold.fleet.models import GpuFlavor
from freehold.registry.inspection.weights import BITS
from freehold.serving.sizing import Fit, Flavor, Model, Weights, Workload, plan

if TYPE_CHECKING:
    from freehold.registry.models import Revision
    from freehold.serving.sizing.flavors import KvCacheDtype

_USUAL_CONTEXT: Final = 8192


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The answer for one revision, best flavor first. `unsized` are flavors whose memory the operator has not said."""

    context_length: int
    concurrency: int
    fits: list[Fit]
    unsized: list[str]


def revision_fits(
    *,
    revision: Revision,
    context_length: int | None = None,
    concurrency: int = 1,
    kv_cache_dtype: KvCacheDtype = "auto",
) -> Fits:
    """Every flavor of the fleet for a revision. Without a length: what the model reads, up to 8,192 tokens.

    Raises Conflict where the revision has no configuration to size by, Refused where that lacks a number, InvalidInput.
    """
    facts: dict[str, Any] = revision.inspection
    config = facts.get("config")
    if not isinstance(config, dict) or not config or facts.get("adapter"):
        raise Conflict(
            f"The revision {revision.commit_id[:12]} cannot be sized: it has no config.json that describes a whole "
            "model. Upload the model's config.json with its weights.",
            field="revision",
        )
    longest = (facts.get("context") or {}).get("longest") or facts.get("max_model_len")
    model = Model(config=config, weights=_weights(facts), longest_context=longest if isinstance(longest, int) else None)
    length = context_length or min(model.longest_context or _USUAL_CONTEXT, _USUAL_CONTEXT)
    workload = Workload(context_length=length, concurrency=concurrency, kv_cache_dtype=kv_cache_dtype)
    known = list(GpuFlavor.objects.order_by("name"))
    unsized = [flavor.name for flavor in known if not flavor.memory_bytes and flavor.accelerator.lower() != "cpu"]
    flavors = [
        Flavor(
            name=flavor.name,
            accelerator=flavor.accelerator,
            accelerators=flavor.accelerators,
            memory_bytes=flavor.memory_bytes,
            kv_cache_bytes=flavor.kv_cache_bytes,
        )
        for flavor in known
        if flavor.name not in unsized
    ]
    return Fits(context_length=length, concurrency=concurrency, fits=plan(model, workload, flavors), unsized=unsized)


def _weights(facts: dict[str, Any]) -> Weights:
    """Bytes by dtype of what the headers declare; the draft layers' share by number of parameters."""
    stored = {dtype: count * BITS[dtype] // 8 for dtype, count in (facts.get("dtypes") or {}).items() if dtype in BITS}
    parameters, draft = facts.get("parameters") or 0, facts.get("parameters_draft") or 0
    share = sum(stored.values()) * draft // parameters if draft and parameters else 0
    return Weights(bytes_by_dtype=stored, draft_bytes=share)
