"""Which vLLM arguments a customer may set."""

from __future__ import annotations

import pytest

from freehold.common.errors import Refused
from freehold.serving.arguments import validate


def test_allowed_arguments_pass() -> None:
    assert validate({"max_model_len": 2048, "dtype": "bfloat16"}) == {"max_model_len": 2048, "dtype": "bfloat16"}


@pytest.mark.parametrize("name", ["trust_remote_code", "host", "api_key", "model", "download_dir", "plugins", "--host"])
def test_anything_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(Refused, match=name.strip("-")) as caught:
        validate({name: "x"})
    assert caught.value.field == f"arguments.{name}"


@pytest.mark.parametrize(
    ("name", "value"), [("max_model_len", 1), ("max_model_len", "2048"), ("max_num_seqs", True), ("dtype", "int3")]
)
def test_values_out_of_range_are_refused_with_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(Refused, match=name):
        validate({name: value})
