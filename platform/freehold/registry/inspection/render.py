"""The limited process in which untrusted chat templates are rendered. Started by templating.py; it imports jinja2.

The same language as transformers 5.19 gives its templates (utils/chat_template_utils.py): an immutable sandbox that
trims blocks, loop controls, a `generation` block, `tojson`, `raise_exception`, `strftime_now`; no loader. It answers a
line of JSON for each template as it comes, so that whoever waits knows at which it was ended.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, is_internal_attribute

from freehold.registry.inspection.conversations import CONVERSATIONS

if TYPE_CHECKING:
    from jinja2.parser import Parser
    from jinja2.runtime import Macro

    from freehold.registry.inspection.conversations import Conversation

CPU_SECONDS: Final = 2
ADDRESS_SPACE_BYTES: Final = 256 * 1024 * 1024
OUTPUT_BYTES: Final = 16 * 1024 * 1024

_TOKENS: Final = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_KNOWN: Final = frozenset({"messages", "tools", "documents", "add_generation_prompt", *_TOKENS})


class Verdict(Exception):
    """The template is refused: a reason and what is wrong with it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Generation(Extension):
    """The `{% generation %}` block, which marks what the assistant says and renders as what is in it."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call, so that its body has a scope of its own, as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_rendered"), [], [], body).set_lineno(line)

    def _rendered(self, caller: Macro) -> str:
        return str(caller())


class Environment(ImmutableSandboxedEnvironment):
    """The engine's sandbox, less patience: there, what reaches for Python's insides may get nothing and go on."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        """What an attribute that is out of bounds yields."""
        if attribute.startswith("__") or is_internal_attribute(obj, attribute):
            raise SecurityError(f"access to {attribute[:40]!r}")
        return super().unsafe_undefined(obj, attribute)


def environment() -> Environment:
    """What templates are compiled in."""
    made = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = _now
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(str(message))


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)


def judge(text: str) -> dict[str, Any]:
    """What a template can do: the conversations it renders, the switches it knows. Raises Verdict."""
    made = environment()
    try:
        tree = made.parse(text)
        names = meta.find_undeclared_variables(tree)
        _check(tree)
        template = made.from_string(text)
    except TemplateSyntaxError as error:
        raise Verdict("chat_template_syntax", f"cannot be compiled (line {error.lineno}: {str(error)[:120]})") from None
    except (RecursionError, SyntaxError, OverflowError, ValueError) as error:
        raise Verdict("chat_template_syntax", f"cannot be compiled ({type(error).__name__})") from None
    except MemoryError:
        raise _over("memory") from None
    outputs = {conversation.name: _output(template, conversation) for conversation in CONVERSATIONS}
    user, bare = outputs["user"], outputs["no_prompt"]
    shown = {
        conversation.name: conversation.shows in (outputs[conversation.name] or "") for conversation in CONVERSATIONS
    }
    return {
        "renders": user is not None,
        "supports_system": shown["system"],
        "supports_turns": shown["turns"],
        "supports_tools": shown["tools"],
        "supports_tool_calls": shown["tool_calls"] and shown["tool_results"],
        "adds_generation_prompt": user is not None and bare is not None and user != bare and user.startswith(bare),
        "thinking_switch": outputs["thinking"] != outputs["not_thinking"],
        "switches": sorted(name[:60] for name in names - _KNOWN - made.globals.keys())[:32],
    }


def _check(tree: nodes.Template) -> None:
    """Refuses what no chat template needs: other files, and the names by which sandboxes are left."""
    for loading in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        detail = f"takes in another file ({type(loading).__name__.lower()}, line {loading.lineno}), which nothing loads"
        raise Verdict("chat_template_include", detail)
    for attribute in tree.find_all(nodes.Getattr):
        if attribute.attr.startswith("__"):
            raise _escape(attribute.attr)
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str) and constant.value[:2] == "__" == constant.value[-2:] != constant.value:
            raise _escape(constant.value)


def _escape(name: str) -> Verdict:
    return Verdict("chat_template_sandbox", f"reaches for {name[:40]!r}, a way out of the sandbox templates run in")


def _over(limit: str) -> Verdict:
    return Verdict("chat_template_loops", f"loops, or takes more {limit} than a template may")


def _output(template: jinja2.Template, conversation: Conversation) -> str | None:
    """What a conversation renders as; None where the template refuses it. With parts where plain text is not taken."""
    output = _rendered(template, conversation)
    if output is None or conversation.shows not in output:
        parts = _rendered(template, conversation.in_parts())
        return parts if parts is not None and conversation.shows in parts else output
    return output


def _rendered(template: jinja2.Template, conversation: Conversation) -> str | None:
    pieces: list[str] = []
    written = 0
    try:
        for piece in template.generate(
            messages=conversation.messages,
            tools=conversation.tools,
            documents=None,
            add_generation_prompt=conversation.prompt,
            **_TOKENS,
            **conversation.switches,
        ):
            pieces.append(piece)
            written += len(piece)
            if written > OUTPUT_BYTES:
                break
    except SecurityError as error:
        raise Verdict("chat_template_sandbox", f"breaks the rules of its sandbox ({str(error)[:120]})") from None
    except MemoryError:
        raise _over("memory") from None
    except (OverflowError, RecursionError):
        raise _over("steps") from None
    except Exception:  # noqa: BLE001 - a template's own error on one conversation, of whatever kind, is a fact
        return None
    if written > OUTPUT_BYTES:
        raise Verdict("chat_template_output", f"renders more than {OUTPUT_BYTES} characters")
    return "".join(pieces)


def main() -> None:
    """Limits itself, then renders the templates on stdin: a list of texts. What was imported before is not counted."""
    templates = [str(text) for text in json.load(sys.stdin)]
    _limit()
    for text in templates:
        sys.stdout.write(json.dumps(_answer(text)) + "\n")
        sys.stdout.flush()


def _limit() -> None:
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, used + CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, inside of C code too
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)


def _answer(text: str) -> dict[str, Any]:
    try:
        return {"facts": judge(text)}
    except Verdict as verdict:
        return {"reason": verdict.reason, "detail": verdict.detail}
