"""OpenAI's and Anthropic's own Python SDKs against the gateway, with real vLLM behind: every call there is, and every
way to be refused as the exception that the SDK's users catch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import anthropic
import httpx
import openai
import pydantic
import pytest

from freehold.onebox.layout import ROOT
from tests.e2e.conftest import Onebox
from tests.e2e.test_main_path import ASK, api, chat_of, client, embedding_of, endpoint_of, openai_client, until

__all__ = ["api", "client"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

SEED = 7  # random weights sample anything; so they sample the same
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Bonn"]}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "The weather in a city.", "parameters": CITY, "strict": True}
TOOL: Any = {"type": "function", "function": FUNCTION}
CHOICE: Any = {"type": "function", "function": {"name": "weather"}}
CLIENT_TOOL: Any = {"name": "weather", "input_schema": CITY, "strict": True}
LONG = 600  # tokens: room for the white space that random weights put into JSON
SPACE = {"ignore_eos": True}


class City(pydantic.BaseModel):
    """What structured output is parsed into."""

    city: Literal["Bonn"]


def anthropic_client(onebox: Onebox, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=onebox.facts["gateway_url"], api_key=key, max_retries=0)


@pytest.fixture
def claude(onebox: Onebox) -> Iterator[anthropic.Anthropic]:
    with anthropic_client(onebox, onebox.facts["api_key"]) as client:
        yield client


@pytest.fixture(scope="module")
def caller(onebox: Onebox) -> Iterator[str]:
    """A model whose engine knows how to call tools."""
    headers = {"Authorization": f"Bearer {onebox.facts['api_key']}"}
    with httpx.Client(base_url=onebox.facts["api_url"], headers=headers, timeout=30) as api:
        model = endpoint_of(api, chat_of(onebox))["model"]
        arguments = {"enable_auto_tool_choice": True, "tool_call_parser": "hermes", "max_num_seqs": 8}
        made = api.post("/endpoints", json={"name": "tools", "model": model, "arguments": arguments})
        endpoint = made.raise_for_status().json()
        address = f"/endpoints/{endpoint['id']}"
        until(lambda: api.get(address).json()["phase"], lambda phase: phase == "Ready", seconds=280)
        with openai_client(onebox, onebox.facts["api_key"]) as client:
            until(lambda: answers(client, endpoint["model_name"]), bool, seconds=10)
        yield str(endpoint["model_name"])
        api.delete(address).raise_for_status()
        until(lambda: api.get(address).status_code, lambda status: status == 404, seconds=90)


def answers(client: openai.OpenAI, model: str) -> bool:
    try:
        return bool(client.chat.completions.create(model=model, messages=ASK, max_tokens=1).choices)
    except openai.APIStatusError:
        return False


@pytest.fixture
def key(api: httpx.Client) -> Iterator[Any]:
    """Makes API keys; they are revoked afterwards."""
    made = []

    def make(**fields: object) -> str:
        answer = api.post("/api-keys", json={"name": "sdk", "role": "inference", **fields})
        made.append(answer.raise_for_status().json())
        return str(made[-1]["secret"])

    yield make
    for found in made:
        api.delete(f"/api-keys/{found['id']}").raise_for_status()


# OpenAI: chat completions


def test_a_chat_completion_has_the_public_name_usage_and_a_request_id(onebox: Onebox, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=chat_of(onebox), messages=ASK, max_tokens=6, temperature=0.5, stop=["\0"], seed=SEED, extra_body=SPACE
    )
    assert (answer.object, answer.model) == ("chat.completion", chat_of(onebox))
    assert (answer.choices[0].finish_reason, answer.choices[0].message.role) == ("length", "assistant")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert len(answer._request_id or "") == 32


def test_max_completion_tokens_is_taken_for_max_tokens(onebox: Onebox, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=chat_of(onebox), messages=ASK, max_completion_tokens=3, extra_body=SPACE
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_several_choices_are_counted_together(onebox: Onebox, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=chat_of(onebox), messages=ASK, max_tokens=4, n=3, extra_body=SPACE)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_logprobs_come_with_every_token(onebox: Onebox, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": chat_of(onebox), "messages": ASK, "max_tokens": 3, "top_logprobs": 2}
    answer = client.chat.completions.create(**asked, logprobs=True, extra_body=SPACE)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 3
    assert all(token.logprob < 0 and len(token.top_logprobs) >= 2 for token in logprobs.content)
    frames = list(client.chat.completions.create(**asked, logprobs=True, stream=True, extra_body=SPACE))
    streamed = [choice.logprobs for frame in frames for choice in frame.choices if choice.logprobs]
    assert sum(len(found.content or []) for found in streamed) == 3


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_in_a_stream_if_it_was_asked_for(onebox: Onebox, client: openai.OpenAI, n: int, asked: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    frames = list(
        client.chat.completions.create(
            model=chat_of(onebox), messages=ASK, max_tokens=5, n=n, stream=True, extra_body=SPACE, **options
        )
    )
    assert {frame.model for frame in frames} == {chat_of(onebox)}
    assert {choice.index for frame in frames for choice in frame.choices} == set(range(n))
    usage = [frame.usage for frame in frames if frame.usage is not None]
    assert [found.completion_tokens for found in usage] == ([5 * n] if asked else [])
    assert all(frame.usage is None for frame in frames[:-1])


def test_the_streaming_helper_puts_a_structured_answer_together(onebox: Onebox, client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=chat_of(onebox),
        messages=ASK,
        max_tokens=LONG,
        seed=SEED,
        response_format=City,
        stream_options={"include_usage": True},
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.parsed == City(city="Bonn")
    assert final.usage is not None
    assert final.usage.completion_tokens > 0


def test_structured_output_is_parsed(onebox: Onebox, client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=chat_of(onebox), messages=ASK, max_tokens=LONG, seed=SEED, response_format=City
    )
    assert answer.choices[0].message.parsed == City(city="Bonn")
    plain = client.chat.completions.create(
        model=chat_of(onebox), messages=ASK, max_tokens=LONG, seed=SEED, response_format={"type": "json_object"}
    )
    assert (plain.choices[0].message.content or "").lstrip().startswith("{")


def test_a_tool_is_called_and_its_result_is_taken(caller: str, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": caller, "max_tokens": LONG, "seed": SEED, "tools": [TOOL]}
    called = client.chat.completions.create(**asked, messages=ASK, tool_choice=CHOICE)
    message = called.choices[0].message
    assert message.tool_calls
    call: Any = message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bonn"})
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    conversation: list[Any] = [*ASK, message, result]
    after = client.chat.completions.create(model=caller, max_tokens=5, tools=[TOOL], messages=conversation)
    assert after.usage is not None
    assert called.usage is not None
    assert after.usage.prompt_tokens > called.usage.prompt_tokens


def test_the_arguments_of_a_tool_are_streamed(caller: str, client: openai.OpenAI) -> None:
    frames = client.chat.completions.create(
        model=caller, messages=ASK, max_tokens=LONG, seed=SEED, tools=[TOOL], tool_choice=CHOICE, stream=True
    )
    deltas = [call for frame in frames for choice in frame.choices for call in choice.delta.tool_calls or []]
    assert [delta.function.name for delta in deltas if delta.function and delta.function.name] == ["weather"]
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert json.loads(arguments) == {"city": "Bonn"}


# OpenAI: the other paths


def test_completions_of_several_prompts_with_logprobs_and_echo(onebox: Onebox, client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=chat_of(onebox), prompt=["Freehold", "is"], n=2, max_tokens=3, logprobs=1, echo=True, extra_body=SPACE
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text.startswith("Freehold")
    assert answer.choices[2].logprobs is not None
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_a_completion_is_streamed(onebox: Onebox, client: openai.OpenAI) -> None:
    frames = list(
        client.completions.create(
            model=chat_of(onebox),
            prompt=[1, 2, 3],
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=SPACE,
        )
    )
    assert frames[-1].usage is not None
    assert (frames[-1].usage.prompt_tokens, frames[-1].usage.completion_tokens) == (3, 5)
    assert all(frame.usage is None for frame in frames[:-1])


def test_embeddings_of_text_and_tokens_in_both_encodings(onebox: Onebox, client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model=embedding_of(onebox), input=["one", "two"])  # the SDK asks for base64
    spelt = client.embeddings.create(model=embedding_of(onebox), input=["one", "two"], encoding_format="float")
    assert [len(item.embedding) for item in packed.data] == [384, 384]
    assert packed.data[1].embedding == pytest.approx(spelt.data[1].embedding, abs=1e-5)
    assert packed.model == embedding_of(onebox)
    tokens = client.embeddings.create(model=embedding_of(onebox), input=[101, 2028, 102])
    assert tokens.usage.prompt_tokens >= 3


def test_documents_are_reranked_and_scored(onebox: Onebox, client: openai.OpenAI) -> None:
    documents = ["The quarterly ledger was audited.", "A man is eating food."]
    for path in ("/rerank", f"{onebox.facts['gateway_url']}/v2/rerank"):
        asked = {"model": embedding_of(onebox), "query": "A man eats.", "documents": documents, "top_n": 1}
        ranked: Any = client.post(path, body=asked, cast_to=object)
        assert ranked["model"] == embedding_of(onebox)
        assert [(found["index"], found["document"]["text"]) for found in ranked["results"]] == [(1, documents[1])]
    asked = {"model": embedding_of(onebox), "text_1": "A man eats.", "text_2": documents}
    scored: Any = client.post("/score", body=asked, cast_to=object)
    assert scored["data"][0]["score"] < 0.3 < 0.6 < scored["data"][1]["score"]


def test_a_response_in_one_piece_and_as_events(onebox: Onebox, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": chat_of(onebox), "input": "Hello", "max_output_tokens": 16, "extra_body": SPACE}
    answer = client.responses.create(**asked, instructions="Be kind.", metadata={"model": "mine"}, store=True)
    assert (answer.model, answer.metadata) == (chat_of(onebox), {"model": "mine"})
    assert answer.usage is not None
    assert answer.usage.output_tokens == 16
    events = list(client.responses.create(**asked, stream=True))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    assert {event.response.model for event in (events[0], events[1], events[-1]) if hasattr(event, "response")} == {
        chat_of(onebox)
    }
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    with client.responses.stream(**asked) as stream:
        assert stream.until_done().get_final_response().usage is not None


def test_a_response_is_parsed_and_calls_tools(caller: str, client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model=caller, input="Hello", max_output_tokens=LONG, text_format=City)
    assert parsed.output_parsed == City(city="Bonn")
    tool: Any = {"type": "function", **FUNCTION}
    asked: dict[str, Any] = {"model": caller, "max_output_tokens": LONG, "tools": [tool]}
    question: Any = {"role": "user", "content": "How is the weather?"}
    answer = client.responses.create(
        **asked, input=[question], tool_choice={"type": "function", "name": "weather"}, extra_body={"seed": SEED}
    )
    calls = [item for item in answer.output if item.type == "function_call"]
    assert json.loads(calls[0].arguments) == {"city": "Bonn"}
    result: Any = {"type": "function_call_output", "call_id": calls[0].call_id, "output": "rain"}
    after = client.responses.create(
        **{**asked, "max_output_tokens": 5},
        input=[question, *answer.output, result],
    )
    assert after.usage is not None


@pytest.mark.parametrize("field", [{"previous_response_id": "resp_1"}, {"background": True}])
def test_responses_are_not_kept(onebox: Onebox, client: openai.OpenAI, field: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=chat_of(onebox), input="Hello", **field)
    assert caught.value.param == next(iter(field))


def test_models_are_listed_and_found_by_both_sdks(
    onebox: Onebox, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    names = {chat_of(onebox), embedding_of(onebox)}
    assert names <= {model.id for model in client.models.list()}
    assert names <= {model.id for model in claude.models.list()}
    assert client.models.retrieve(chat_of(onebox)).owned_by == "demo"
    found = claude.models.retrieve(chat_of(onebox))
    assert (found.type, found.display_name) == ("model", chat_of(onebox))
    assert found.created_at.year >= 2026


# Anthropic


def test_a_message_with_a_system_prompt(onebox: Onebox, claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(
        model=chat_of(onebox),
        max_tokens=8,
        messages=ASK,
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["\0"],
        metadata={"user_id": "somebody"},
        extra_body={"temperature": 0.5, "top_k": 50},
    )
    assert (message.model, message.role, message.type) == (chat_of(onebox), "assistant", "message")
    assert message.stop_reason in ("max_tokens", "end_turn")
    assert 0 < message.usage.output_tokens <= 8
    assert len(message._request_id or "") == 32


def test_a_message_is_streamed(onebox: Onebox, claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model=chat_of(onebox), max_tokens=8, messages=ASK) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    assert final.model == chat_of(onebox)
    assert "".join(event.text for event in events if event.type == "text") == "".join(
        block.text for block in final.content if block.type == "text"
    )
    assert 0 < final.usage.output_tokens <= 8


def test_counted_tokens_are_those_of_the_message(onebox: Onebox, claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model=chat_of(onebox), messages=ASK, system="Be kind.")
    message = claude.messages.create(model=chat_of(onebox), max_tokens=1, messages=ASK, system="Be kind.")
    assert counted.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


def test_a_message_uses_a_tool_and_its_result_is_taken(caller: str, claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": caller, "max_tokens": LONG, "tools": [CLIENT_TOOL]}
    choice: Any = {"type": "tool", "name": "weather"}
    message = claude.messages.create(**asked, messages=ASK, tool_choice=choice)
    used = next(block for block in message.content if block.type == "tool_use")
    assert (used.name, used.input, message.stop_reason) == ("weather", {"city": "Bonn"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": used.id, "content": [{"type": "text", "text": "rain"}]}
    conversation: list[Any] = [
        *ASK,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    assert claude.messages.create(**{**asked, "max_tokens": 5}, messages=conversation).usage.output_tokens > 0
    with claude.messages.stream(**asked, messages=ASK, tool_choice=choice) as stream:
        final = stream.get_final_message()
    assert next(block.input for block in final.content if block.type == "tool_use") == {"city": "Bonn"}


# Both, asynchronously


async def test_the_asynchronous_clients_stream_as_well(onebox: Onebox) -> None:
    address, secret, model = onebox.facts["gateway_url"], onebox.facts["api_key"], chat_of(onebox)
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=secret, max_retries=0) as client:
        frames = [
            frame
            async for frame in await client.chat.completions.create(
                model=model, messages=ASK, max_tokens=4, stream=True, extra_body=SPACE
            )
        ]
        assert frames[-1].choices[0].finish_reason == "length"
    async with (
        anthropic.AsyncAnthropic(base_url=address, api_key=secret, max_retries=0) as claude,
        claude.messages.stream(model=model, max_tokens=4, messages=ASK) as stream,
    ):
        assert (await stream.get_final_message()).usage.output_tokens > 0


# Refusals


def refusals(onebox: Onebox, secret: str, model: str, **fields: Any) -> tuple[Any, Any]:
    """What both SDKs raise."""
    with openai_client(onebox, secret) as client, pytest.raises(openai.OpenAIError) as first:
        client.chat.completions.create(**{"model": model, "messages": ASK, "max_tokens": 1, **fields})
    with anthropic_client(onebox, secret) as claude, pytest.raises(anthropic.AnthropicError) as second:
        claude.messages.create(**{"model": model, "messages": ASK, "max_tokens": 1, **fields})
    return first.value, second.value


def test_a_wrong_key_is_an_authentication_error(onebox: Onebox) -> None:
    first, second = refusals(onebox, "fh_nobody", chat_of(onebox))
    assert isinstance(first, openai.AuthenticationError)
    assert first.code == "invalid_api_key"
    assert isinstance(second, anthropic.AuthenticationError)


def test_a_key_that_may_only_read_is_a_permission_error(onebox: Onebox, key: Any) -> None:
    secret = key(role="viewer")

    def known() -> bool:
        with openai_client(onebox, secret) as client:
            try:
                client.chat.completions.create(model=chat_of(onebox), messages=ASK, max_tokens=1)
            except openai.AuthenticationError:
                return False
            except openai.PermissionDeniedError:
                return True
        return False

    until(known, bool, seconds=5)
    first, second = refusals(onebox, secret, chat_of(onebox))
    assert isinstance(first, openai.PermissionDeniedError)
    assert isinstance(second, anthropic.PermissionDeniedError)


def test_an_unknown_model_is_a_not_found_error(onebox: Onebox) -> None:
    first, second = refusals(onebox, onebox.facts["api_key"], "demo/nothing")
    assert isinstance(first, openai.NotFoundError)
    assert isinstance(second, anthropic.NotFoundError)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", 0), ("max_tokens", 4000), ("temperature", 9), ("messages", []), ("chat_template", "{{ x }}")],
)
def test_a_wrong_request_is_a_bad_request_error(onebox: Onebox, field: str, value: Any) -> None:
    first, second = refusals(onebox, onebox.facts["api_key"], chat_of(onebox), extra_body={field: value})
    assert isinstance(first, openai.BadRequestError)
    assert isinstance(second, anthropic.BadRequestError)
    assert field in first.message


def test_an_image_by_address_is_a_bad_request_error(onebox: Onebox, client: openai.OpenAI) -> None:
    part: Any = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=chat_of(onebox), messages=[{"role": "user", "content": [part]}])
    assert caught.value.code == "invalid_image_url"


def exhaust(ask: Callable[[], object]) -> Any:
    """Asks until it is refused; returns the refusal."""
    for _ in range(40):
        try:
            ask()
        except (openai.OpenAIError, anthropic.AnthropicError) as error:
            return error
    pytest.fail("was never refused")


def test_too_many_requests_are_a_rate_limit_error_and_are_made_again_in_time(onebox: Onebox, key: Any) -> None:
    secret, embedding = key(requests_per_minute=30), embedding_of(onebox)
    with openai_client(onebox, secret) as client, anthropic_client(onebox, secret) as claude:
        until(lambda: answers(client, chat_of(onebox)), bool, seconds=5)
        raw = client.embeddings.with_raw_response.create(model=embedding, input="x")
        assert raw.headers["x-ratelimit-limit-requests"] == "30"
        refused = exhaust(lambda: client.embeddings.create(model=embedding, input="x"))
        assert isinstance(refused, openai.RateLimitError)
        assert refused.code == "rate_limit_exceeded"
        assert 1 <= int(refused.response.headers["retry-after"]) <= 2
        refused = exhaust(lambda: claude.messages.create(model=chat_of(onebox), max_tokens=1, messages=ASK))
        assert isinstance(refused, anthropic.RateLimitError)
        exhaust(lambda: client.embeddings.create(model=embedding, input="x"))
        started = time.monotonic()
        patient = client.with_options(max_retries=3)
        assert patient.embeddings.create(model=embedding, input="x").data
        assert time.monotonic() - started >= 1


@pytest.fixture
def in_advance(onebox: Onebox) -> Iterator[None]:
    """The tenant has to pay in advance, and has paid nothing."""

    def say(how: str) -> None:
        command = [sys.executable, "-m", "tests.e2e.prepaid", how]
        subprocess.run(command, env=onebox.environment, cwd=ROOT, check=True, timeout=60)

    say("on")
    yield
    say("off")
    with openai_client(onebox, onebox.facts["api_key"]) as client:
        until(lambda: answers(client, chat_of(onebox)), bool, seconds=15)


@pytest.mark.usefixtures("in_advance")
def test_an_empty_balance_is_a_402(onebox: Onebox, client: openai.OpenAI) -> None:
    def refused() -> int:
        try:
            client.chat.completions.create(model=chat_of(onebox), messages=ASK, max_tokens=1)
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    until(refused, lambda status: status == 402, seconds=60)
    first, second = refusals(onebox, onebox.facts["api_key"], chat_of(onebox))
    assert (first.status_code, first.code) == (402, "insufficient_quota")
    assert second.status_code == 402
