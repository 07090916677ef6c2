"""A config.json is untrusted: whatever is in it, there is an answer or a refusal, soon."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sizing import CASES
from freehold.common.errors import FreeholdError
from freehold.serving.sizing import Flavor, Model, Workload, plan
from tests.unit.serving.test_sizing_published import NAMES, config_of

GIB = 1024**3
FLAVORS = (
    Flavor(name="gpu-8x", accelerator="H100", accelerators=8, memory_bytes=80 * GIB),
    Flavor(name="cpu", accelerator="cpu", kv_cache_bytes=GIB),
)
CONFIGS = [*(dict(case.config) for case in CASES), *(config_of(name) for name in NAMES)]
MODEL_TYPES = sorted({str(config["model_type"]) for config in CONFIGS})
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 7),
    st.integers(2**20, 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=4),
    st.sampled_from(MODEL_TYPES),
    st.lists(st.one_of(st.integers(-2, 9), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=400, deadline=2000)
@given(config=st.sampled_from(CONFIGS), data=st.data())
def test_junk_in_a_configuration_is_sized_or_refused(config: dict[str, Any], data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=4, unique=True))
    changed = {**config, **{key: data.draw(JUNK) for key in keys}}
    answer(changed)


@settings(max_examples=300, deadline=2000)
@given(config=st.sampled_from(CONFIGS), model_type=st.sampled_from(MODEL_TYPES))
def test_a_configuration_that_claims_to_be_another_is_sized_or_refused(config: dict[str, Any], model_type: str) -> None:
    answer({**config, "model_type": model_type})


@given(config=st.dictionaries(st.sampled_from(sorted({key for one in CONFIGS for key in one})), JUNK))
def test_a_configuration_of_junk_alone_is_sized_or_refused(config: dict[str, Any]) -> None:
    answer(config)


def answer(config: dict[str, Any]) -> None:
    with contextlib.suppress(FreeholdError):
        for fit in plan(Model(config=config), Workload(context_length=4096), FLAVORS):
            assert fit.reason
            assert fit.kv_token_bytes >= 0
            json.dumps(fit.to_dict())
