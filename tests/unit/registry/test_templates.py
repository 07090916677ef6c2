"""Chat templates: where they are found, which are refused, what is learned from rendering them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from freehold.registry.inspection import render, templates
from freehold.registry.inspection.problems import Malformed
from freehold.registry.inspection.templates import Template
from freehold.registry.inspection.templating import judged

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = """
{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{{- raise_exception('System role not supported') }}{% endif %}
    {{- '<' + message.role + '>' }}
    {%- generation %}{{ message.content if message.content is string else message.content[0].text }}{% endgeneration %}
    {%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}
    {%- if loop.last %}{% break %}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}<think></think>
{%- endif %}{% endif %}"""
PARTS = "{% for m in messages %}{% for part in m.content %}{{ part['text'] }}{% endfor %}{% endfor %}"


def _judge(*texts: str) -> tuple[list[dict[str, Any]], list[str]]:
    facts, problems = judged([Template("chat_template.jinja", "default", text) for text in texts])
    return facts, [problem.reason for problem in problems]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "chat_template_loops"),
        ("{{ lipsum(n=10**8) }}", "chat_template_loops"),
        ("{{ 9999999 ** 99999999 }}", "chat_template_loops"),
        ("{{ 'a' * 10**9 }}", "chat_template_loops"),
        ("{{ [0] * 10**9 }}", "chat_template_loops"),
        ("{{ 'a' | center(10**9) }}", "chat_template_loops"),
        ("{% for i in range(10**9) %}{% endfor %}", "chat_template_loops"),
        ("{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}", "chat_template_loops"),
        ("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "chat_template_output"),
        ("{{ ''.__class__.__mro__ }}", "chat_template_sandbox"),
        ("{{ ''['__class__'] }}", "chat_template_sandbox"),
        ("{{ ''['__cla' ~ 'ss__'] }}", "chat_template_sandbox"),
        ("{{ messages | map(attribute='__class__') | list }}", "chat_template_sandbox"),
        ("{% set name = '_' ~ '_class_' ~ '_' %}{{ ''|attr(name) }}", "chat_template_sandbox"),
        ("{{ '{0.__class__}'.format(messages) }}", "chat_template_sandbox"),
        ("{{ cycler.__init__.__globals__ }}", "chat_template_sandbox"),
        ("{{ messages.append(1) }}", "chat_template_sandbox"),
        ("{% include '/etc/passwd' %}", "chat_template_include"),
        ("{% import 'other.jinja' as other %}", "chat_template_include"),
        ("{% extends messages[0].content %}", "chat_template_include"),
        ("{% if %}", "chat_template_syntax"),
        ("{% for m in messages %}", "chat_template_syntax"),
        ("{{ x | nosuchfilter }}", "chat_template_syntax"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "chat_template_syntax"),
    ],
)
def test_a_template_that_loops_or_breaks_out_is_refused(text: str, reason: str) -> None:
    assert _judge(text) == ([], [reason])


def test_an_endless_loop_is_ended_after_two_seconds_of_work() -> None:
    started = time.monotonic()
    _judge("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert time.monotonic() - started < 20


def test_a_template_is_not_repeated_to_whoever_sent_it() -> None:
    _, (problem,) = judged([Template("chat_template.jinja", "default", "{% " + "a" * 500_000 + " %}")])
    assert problem.reason == "chat_template_syntax"
    assert len(problem.detail) < 300
    assert _judge("{{ " + "9" * 5000 + " }}")[1] == ["chat_template_syntax"]


def test_the_problem_names_the_file_and_the_template_at_fault() -> None:
    chain = [
        Template("tokenizer_config.json", "default", CHATML),
        Template("additional_chat_templates/rag.jinja", "rag", "{{ lipsum(n=10**8) }}"),
        Template("chat_template.jinja", "default", CHATML),
    ]
    facts, problems = judged(chain)
    assert [fact["file"] for fact in facts] == ["tokenizer_config.json"]
    assert [problem.file for problem in problems] == ["additional_chat_templates/rag.jinja"]
    assert "('rag') that loops" in problems[0].detail


def test_what_a_template_can_do_is_learned() -> None:
    (chatml, tools, parts), reasons = _judge(CHATML, TOOLS, PARTS)
    assert reasons == []
    assert (chatml["renders"], chatml["supports_system"], chatml["supports_turns"]) == (True, True, True)
    assert (chatml["supports_tools"], chatml["supports_tool_calls"], chatml["thinking_switch"]) == (False, False, False)
    assert (tools["renders"], tools["supports_system"]) == (True, False)
    assert (tools["supports_tools"], tools["supports_tool_calls"]) == (True, True)
    assert (tools["thinking_switch"], tools["switches"]) == (True, ["enable_thinking"])
    assert (chatml["adds_generation_prompt"], parts["adds_generation_prompt"]) == (True, False)
    assert (parts["renders"], parts["supports_turns"]) == (True, True)
    assert len(chatml["sha256"]) == 64
    assert "text" not in chatml


def test_a_template_that_refuses_every_conversation_is_a_fact() -> None:
    facts, reasons = _judge("{{ raise_exception('this model is for documents') }}")
    assert (facts[0]["renders"], reasons) == (False, [])


def test_no_more_than_a_bounded_number_is_rendered() -> None:
    assert _judge(*[CHATML] * (templates.TEMPLATES + 1)) == ([], ["chat_template_too_many"])
    facts, reasons = _judge(*[CHATML] * templates.TEMPLATES)
    assert (len(facts), reasons) == (templates.TEMPLATES, [])


def test_templates_are_taken_from_where_the_engine_takes_them() -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    found = [
        *templates.from_document("tokenizer_config.json", {"chat_template": named}),
        *templates.from_document("chat_template.json", {"chat_template": "c"}),
        *templates.from_document("processor_config.json", {"chat_template": {"x": "d"}}),
        *templates.from_document("config.json", {"chat_template": "not read"}),
        *templates.from_document("tokenizer_config.json", {"chat_template": None}),
    ]
    assert [(template.name, template.text) for template in found] == [
        ("default", "a"), ("tool_use", "b"), ("default", "c"), ("x", "d"),
    ]  # fmt: skip
    assert templates.is_template_file("chat_template.jinja")
    assert templates.is_template_file("additional_chat_templates/rag.jinja")
    assert not templates.is_template_file("examples/chat_template.jinja")
    assert templates.from_file("additional_chat_templates/rag.jinja", b"x").name == "rag"


@pytest.mark.parametrize("chat_template", [7, ["text"], [{"name": "default"}], [{"template": "x"}], {"a": 1}])
def test_a_template_that_is_no_text_is_refused(chat_template: Any) -> None:
    with pytest.raises(Malformed) as refused:
        list(templates.from_document("tokenizer_config.json", {"chat_template": chat_template}))
    assert refused.value.reason == "chat_template_syntax"


def test_a_template_that_is_too_large_or_not_text_is_refused() -> None:
    with pytest.raises(Malformed) as refused:
        templates.from_file("chat_template.jinja", b"x" * (templates.TEMPLATE_BYTES + 1))
    assert refused.value.reason == "chat_template_too_large"
    with pytest.raises(Malformed) as refused:
        templates.from_file("chat_template.jinja", b"\xff")
    assert refused.value.reason == "chat_template_syntax"


def test_json_is_written_as_transformers_writes_it() -> None:
    text = render.environment().from_string("{{ x | tojson(indent=1, sort_keys=true) }}").render(x={"b": "<é>", "a": 1})
    assert text == json.dumps({"a": 1, "b": "<é>"}, ensure_ascii=False, indent=1)
