"""Sizing: how much memory a model needs, which flavors hold it, and for how many requests; explained step by step.

Pure: no Django, no network. plan.py is the door (`size`, `plan`); docs/sizing.md says what is checked against what.

    configuration.py   a config.json, read with suspicion
    layers.py          what each layer keeps of the tokens before; states.py: Mamba and linear attention
    pages.py           vLLM's pages and groups: tokens and requests that fit
    parameters.py      weights counted from config.json, with projections.py; weights.py: their bytes on a rank
    parallel.py        tensor and pipeline parallelism; memory.py: parts of an accelerator's memory
    flavors.py         what is asked, and on what
    explain.py         the calculation as lines of text (steps.py)
"""

from __future__ import annotations

from freehold.serving.sizing.flavors import Flavor, Workload
from freehold.serving.sizing.memory import Memory
from freehold.serving.sizing.plan import Fit, Model, Verdict, plan, size
from freehold.serving.sizing.steps import Step
from freehold.serving.sizing.weights import Weights

__all__ = ["Fit", "Flavor", "Memory", "Model", "Step", "Verdict", "Weights", "Workload", "plan", "size"]
