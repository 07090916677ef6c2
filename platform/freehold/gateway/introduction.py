"""Who answers at a new connection to an engine: what vLLM says at GET /v1/models. Used by upstream.py."""

from __future__ import annotations

import msgspec

LARGEST = 256 * 1024  # bytes of a list of models


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_models = msgspec.json.Decoder(_Models)


def served(body: bytes) -> set[str]:
    """Names of the models in a list; none where it is not one."""
    try:
        return {model.id for model in _models.decode(body).data}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return set()
