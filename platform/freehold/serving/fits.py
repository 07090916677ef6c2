"""Which of the operator's flavors hold a revision: sizing, given what inspection found and what the fleet has. Read by
the REST API and the console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from freehold.common.errors import Conflict, InvalidInput, Refused
from freehold.fleet.models import GpuFlavor
from freehold.registry.inspection.weights import BITS
from freehold.serving.sizing import Fit, Flavor, Model, Verdict, Weights, Workload, plan, size

if TYPE_CHECKING:
    from freehold.registry.models import Revision
    from freehold.serving.sizing.flavors import KvCacheDtype

_USUAL_CONTEXT: Final = 8192
_CONTEXT_STEP: Final = 256
_SHORTER: Final = 6  # attempts at a shorter context, each a tenth less
_LEAST_CPU_CACHE: Final = 1024**3  # an engine on a CPU is given whole GiB (workers.manifests.vllm)


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
    model = _model(revision)
    if model is None:
        raise Conflict(
            f"The revision {revision.commit_id[:12]} cannot be sized: it has no config.json that describes a whole "
            "model. Upload the model's config.json with its weights.",
            field="revision",
        )
    length = context_length or min(model.longest_context or _USUAL_CONTEXT, _USUAL_CONTEXT)
    workload = Workload(context_length=length, concurrency=concurrency, kv_cache_dtype=kv_cache_dtype)
    known = list(GpuFlavor.objects.filter(enabled=True).order_by("name"))
    unsized = [flavor.name for flavor in known if not flavor.memory_bytes and flavor.accelerator.lower() != "cpu"]
    flavors = [_flavor(flavor) for flavor in known if flavor.name not in unsized]
    return Fits(context_length=length, concurrency=concurrency, fits=plan(model, workload, flavors), unsized=unsized)


def flavors_too_small(*, revision: Revision, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Flavors on which an engine with these arguments would not start → why not, in words and numbers.

    What is asked is what vLLM checks when it starts: weights, activations and one request of `max_model_len`, which
    without the argument is as long as the model reads. Nothing is said against a flavor or model that cannot be sized,
    nor against a KV cache of which only an upper bound is known. Raises Refused for more tokens than the model reads.
    """
    model = _model(revision)
    if model is None:
        return {}
    default = revision.inspection.get("max_model_len")
    length = arguments.get("max_model_len") or default or min(model.longest_context or _USUAL_CONTEXT, _USUAL_CONTEXT)
    if model.longest_context is not None and length > model.longest_context:
        raise Refused(
            f"The model reads at most {model.longest_context:,} tokens: set max_model_len to that or less.",
            field="arguments.max_model_len",
        )
    workload = Workload(
        context_length=length,
        kv_cache_dtype="fp8" if str(arguments.get("kv_cache_dtype", "")).startswith("fp8") else "auto",
        max_num_batched_tokens=arguments.get("max_num_batched_tokens"),
        max_num_seqs=arguments.get("max_num_seqs"),
    )
    small = {}
    for flavor in GpuFlavor.objects.order_by("name"):
        is_cpu = flavor.accelerator.lower() == "cpu"
        if not flavor.memory_bytes and not is_cpu:
            continue
        asked = _flavor(flavor)
        if is_cpu and not asked.kv_cache_bytes:
            asked = replace(asked, kv_cache_bytes=_LEAST_CPU_CACHE)
        try:
            fit = size(model, workload, asked, max_nodes=flavor.nodes)
        except (Refused, InvalidInput):
            return {}  # its config.json lacks a number: the engine will say what it makes of that
        if not fit.fits and (fit.exact or fit.verdict is Verdict.WEIGHTS):
            small[flavor.name] = _explained(model, workload, asked, fit, flavor.nodes)
    return small


def _explained(model: Model, workload: Workload, flavor: Flavor, fit: Fit, nodes: int) -> str:
    """The reason, and a shorter context that would fit where there is one."""
    length = fit.kv_tokens or 0
    for _ in range(_SHORTER):
        length = length * 9 // 10 // _CONTEXT_STEP * _CONTEXT_STEP
        if fit.verdict is Verdict.KV_CACHE and length:
            shorter = replace(workload, context_length=length)
            if size(model, shorter, flavor, max_nodes=nodes).fits:
                return f"{fit.reason} Set max_model_len to {length}, or choose a flavor with more memory."
    return f"{fit.reason} Choose a flavor with more memory."


def _model(revision: Revision) -> Model | None:
    """What sizing needs of a revision; None where it has no configuration of a whole model."""
    facts: dict[str, Any] = revision.inspection
    config = facts.get("config")
    if not isinstance(config, dict) or not config or facts.get("adapter"):
        return None
    longest = (facts.get("context") or {}).get("longest") or facts.get("max_model_len")
    return Model(config=config, weights=_weights(facts), longest_context=longest if isinstance(longest, int) else None)


def _flavor(flavor: GpuFlavor) -> Flavor:
    """One node of it: sizing counts nodes itself."""
    return Flavor(
        name=flavor.name,
        accelerator=flavor.accelerator,
        accelerators=flavor.accelerators_per_node,
        memory_bytes=flavor.memory_bytes,
        kv_cache_bytes=flavor.kv_cache_bytes,
    )


def _weights(facts: dict[str, Any]) -> Weights:
    """Bytes by dtype of what the headers declare; the draft layers' share by number of parameters."""
    stored = {dtype: count * BITS[dtype] // 8 for dtype, count in (facts.get("dtypes") or {}).items() if dtype in BITS}
    parameters, draft = facts.get("parameters") or 0, facts.get("parameters_draft") or 0
    share = sum(stored.values()) * draft // parameters if draft and parameters else 0
    return Weights(bytes_by_dtype=stored, draft_bytes=share)
