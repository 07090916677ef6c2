"""The parameters that OpenAI's and Anthropic's SDKs know are all decided on: taken, dropped, or refused with a remedy.
A newer SDK that has another one fails here."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from freehold.gateway.surface import bodies

HEADERS = {"workspace_id"}  # sent as a header
KNOWN: dict[str, Any] = {
    "/v1/chat/completions": chat_create_params.CompletionCreateParamsStreaming,
    "/v1/completions": completion_create_params.CompletionCreateParamsStreaming,
    "/v1/embeddings": embedding_create_params.EmbeddingCreateParams,
    "/v1/responses": response_create_params.ResponseCreateParamsStreaming,
    "/v1/messages": message_create_params.MessageCreateParamsStreaming,
    "/v1/messages/count_tokens": message_count_tokens_params.MessageCountTokensParams,
}


@pytest.mark.parametrize("path", list(KNOWN))
def test_every_parameter_of_an_sdk_is_decided_on(path: str) -> None:
    surface = bodies.SURFACES[path]
    undecided = (
        KNOWN[path].__annotations__.keys() - surface.allowed - surface.dropped - surface.refused.keys() - HEADERS
    )
    assert not undecided
