"""What may come in."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rest_framework import exceptions, serializers

from freehold.api.parsing import MAX_BODY, BodyTooLarge, BoundedJSONParser, RequestBody, validated


class _Body(RequestBody):
    name = serializers.CharField()
    size = serializers.IntegerField(default=1)


def test_declared_fields_pass_with_their_defaults() -> None:
    assert validated(_Body, {"name": "a"}) == {"name": "a", "size": 1}


def test_every_unknown_field_is_named_with_those_there_are() -> None:
    with pytest.raises(exceptions.ValidationError) as raised:
        validated(_Body, {"name": "a", "nmae": "b", "x": 1})
    detail: Any = raised.value.detail
    assert set(detail) == {"nmae", "x"}
    assert "name, size" in str(detail["nmae"][0])


@pytest.mark.parametrize("body", [[], "x", 1, None])
def test_what_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(exceptions.ValidationError):
        validated(_Body, body)


def test_a_body_is_read_to_its_limit_and_no_further() -> None:
    stream = io.BytesIO(b" " * (MAX_BODY * 3))
    with pytest.raises(BodyTooLarge):
        BoundedJSONParser().parse(stream)
    assert stream.tell() == MAX_BODY + 1


def test_a_body_of_the_largest_size_is_read() -> None:
    body = b'{"name": "' + b"x" * (MAX_BODY - 12) + b'"}'
    assert len(body) == MAX_BODY
    assert len(BoundedJSONParser().parse(io.BytesIO(body))["name"]) == MAX_BODY - 12


@pytest.mark.parametrize("body", [b"[" * 200_000, b"{", b"NaN", b"\xff", b"1" * 10_000])
def test_what_is_no_json_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(exceptions.ParseError):
        BoundedJSONParser().parse(io.BytesIO(body))
