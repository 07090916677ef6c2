"""`make up`: brings everything up, shows it at work, and stays until Ctrl-C (or returns, with DETACH=1)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

from freehold.common import ports
from freehold.onebox.checks import problems
from freehold.onebox.credentials import Credentials, write_private
from freehold.onebox.customer import CallFailed, Customer
from freehold.onebox.demo import ADMIN_EMAIL, CLUSTER, FLAVOR, OPERATOR_EMAIL, REGION, TENANT
from freehold.onebox.install import engine_python
from freehold.onebox.layout import ROOT, Layout
from freehold.onebox.models import DEMO, bring_in, wait_until_ready
from freehold.onebox.postgres import DatabaseFailed, MissingWheel
from freehold.onebox.report import Report
from freehold.onebox.stack import Busy, Stack, StackFailed
from freehold.onebox.supervisor import SupervisorFailed, tail

_METERED_SECONDS = 20.0
_SENTENCES = ("A customer owns the place where the model lives.", "The model's home belongs to the client.")


class NothingStarted(Exception):
    """Something stands in the way; the message says what, and the remedy."""


class Stopped(Exception):
    """Somebody wants us to end: Ctrl-C, SIGTERM, a closed terminal."""


FORESEEN = (StackFailed, SupervisorFailed, DatabaseFailed, MissingWheel, CallFailed, Busy, NothingStarted, OSError)


def up(*, detach: bool) -> int:
    """Returns the exit status; says what it does, and what to do where something foreseeable goes wrong."""
    layout, report = Layout.of(), Report()
    stack = Stack(layout)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with stack.starting():
            if stack.is_running():
                report.plain(f"Freehold is already running here (FREEHOLD_HOME={layout.home}). `make down` stops it.")
                _summary(layout, report)
                return 0
            answered = _bring_up(stack, report)
        if detach:
            return 0 if answered else 1
        report.plain("\nCtrl-C stops everything. Logs: " + str(layout.logs))
        return _stay(stack, report)
    except Stopped:
        return _end(stack, report)
    except FORESEEN as problem:
        report.plain(f"error: {problem}")
        if not isinstance(problem, Busy | NothingStarted):
            _end(stack, report)
        return 1


def _bring_up(stack: Stack, report: Report) -> bool:
    """Returns whether both demo models answered. Raises what FORESEEN names."""
    layout = stack.layout
    stragglers = stack.stop()
    if stragglers:
        report.step(f"ended {stragglers} processes that a killed supervisor had left behind")
    found = problems(layout.data)
    if found:
        raise NothingStarted("\n       ".join(found))
    layout.create()
    if layout.is_elsewhere:
        report.step(
            f"databases and models lie in {layout.data}: an unprivileged user runs them, who cannot enter {layout.home}"
        )
    variables = stack.start(report)
    api_key, is_new = _seed(variables)
    facts = _facts(layout, api_key)
    write_private(layout.demo, facts)
    report.step(f"seeded: operator, tenant {TENANT}, region {REGION}, cluster {CLUSTER!r}, flavor {FLAVOR}, prices")
    customer = Customer(web_url=facts["console_url"], gateway_url=facts["gateway_url"], api_key=api_key)
    answered = _demo(stack, customer, report)
    _summary(layout, report, show_key=is_new, answered=answered)
    return answered


def _seed(variables: dict[str, str]) -> tuple[str, bool]:
    command = [sys.executable, "-m", "freehold.onebox.seed"]
    done = subprocess.run(command, env=variables, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise StackFailed("The demo could not be seeded:\n  " + "\n  ".join(done.stderr.splitlines()[-12:]))
    seeded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return str(seeded["api_key"]), bool(seeded["key_is_new"])


def _facts(layout: Layout, api_key: str) -> dict[str, Any]:
    credentials = Credentials.of(layout.secrets)
    web, gateway = f"http://{ports.ADDRESS}:{ports.WEB}", f"http://{ports.ADDRESS}:{ports.GATEWAY}"
    return {
        "console_url": web,
        "api_url": f"{web}/api/v1",
        "gateway_url": gateway,
        "hub_url": web,
        "api_key": api_key,
        "tenant": TENANT,
        "logins": [
            {"role": "admin", "email": ADMIN_EMAIL, "password": credentials.admin_password},
            {"role": "operator", "email": OPERATOR_EMAIL, "password": credentials.operator_password},
        ],
        "models": {demo.kind: demo.public_name for demo in DEMO},
    }


def _demo(stack: Stack, customer: Customer, report: Report) -> bool:
    """Pushes, deploys and calls the demo models. A failure is told; the platform stays up."""
    try:
        if engine_python() is None:
            report.step("the engine (vLLM in .venv-engine) is not installed: nothing is served on this machine.")
            report.plain("           `make up` tries to install it again each time and says why it could not.")
            return False
        endpoints = bring_in(customer, stack.layout.data / "demo", report)
        report.step("vLLM loads the models; two starting side by side take about a minute on two cores")
        wait_until_ready(customer, endpoints, report)
        _call(customer, report)
    except CallFailed as problem:
        report.step(f"the demo failed: {problem}")
        return False
    return True


def _call(customer: Customer, report: Report) -> None:
    chat, embedding = (demo.public_name for demo in DEMO)
    before = {line.model: line.completion_tokens + line.prompt_tokens for line in customer.usage()}
    similarity = customer.similarity(embedding, *_SENTENCES)
    report.step(f"{embedding}: “{_SENTENCES[0]}” and “{_SENTENCES[1]}” are {similarity:.2f} similar")
    words = "".join(customer.chat(chat, "Who owns the model?", max_tokens=24))
    report.step(f"{chat}, streamed: {words!r}")
    report.plain("           (its weights are random, so what it says means nothing)")
    deadline = time.monotonic() + _METERED_SECONDS
    while True:
        lines = [line for line in customer.usage() if line.model in {chat, embedding}]
        metered = {
            line.model for line in lines if line.prompt_tokens + line.completion_tokens > before.get(line.model, 0)
        }
        if metered == {chat, embedding}:
            break
        if time.monotonic() > deadline:
            raise CallFailed(f"The usage of {' and '.join({chat, embedding} - metered)} was not metered within 20 s.")
        time.sleep(0.2)
    for line in lines:
        report.step(f"{line.model}: metered {line.prompt_tokens} + {line.completion_tokens} tokens so far, {line.cost}")


def _summary(layout: Layout, report: Report, *, show_key: bool = False, answered: bool = True) -> None:
    if not layout.demo.exists():
        return
    facts = json.loads(layout.demo.read_text())
    report.plain(f"\nConsole   {facts['console_url']}")
    for login in facts["logins"]:
        where = "/admin/" if login["role"] == "operator" else "/"
        report.plain(
            f"          {login['role']}: {login['email']}  {login['password']}  ({facts['console_url']}{where})"
        )
    report.plain(f"REST API  {facts['api_url']}   (schema: {facts['api_url']}/schema)")
    report.plain(f"Hub       {facts['hub_url']}   (HF_ENDPOINT for `hf upload`, with HF_HUB_DISABLE_XET=1)")
    report.plain(f"Inference {facts['gateway_url']}/v1   models: {', '.join(facts['models'].values())}")
    if show_key:
        report.plain(f"API key   {facts['api_key']}   (shown this once; scripts find it in {layout.demo})")
    if not answered:
        report.plain("\nThe models do not answer; what is missing is said above.")
        return
    key = f'$({sys.executable} -c \'import json; print(json.load(open("{layout.demo}"))["api_key"])\')'
    body = json.dumps({"model": facts["models"]["embedding"], "input": "hello"})
    report.plain(f'\nTry it:\n\nexport FREEHOLD_KEY="{key}"')
    report.plain(
        f'curl -s {facts["gateway_url"]}/v1/embeddings -H "Authorization: Bearer $FREEHOLD_KEY" '
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
    report.plain(f"\n{sys.executable} - <<'EOF'\n{_snippet(facts)}\nEOF")


def _snippet(facts: dict[str, Any]) -> str:
    return (
        "import os\n"
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{facts["gateway_url"]}/v1", api_key=os.environ["FREEHOLD_KEY"])\n'
        "for chunk in client.chat.completions.create(\n"
        f'    model="{facts["models"]["chat"]}", messages=[{{"role": "user", "content": "Hello"}}],\n'
        "    max_tokens=32, stream=True,\n"
        "):\n"
        "    if chunk.choices:\n"
        '        print(chunk.choices[0].delta.content or "", end="", flush=True)\n'
        "print()"
    )


def _stay(stack: Stack, report: Report) -> int:
    """Until a signal, or until somebody else stops the installation. Tells when a process is in trouble."""
    told: set[tuple[str, str]] = set()
    while True:
        time.sleep(1)
        try:
            states = stack.supervisor.status()
        except SupervisorFailed:
            break
        now = {(status.name, status.state) for status in states if status.state in {"FATAL", "BACKOFF", "EXITED"}}
        for name, state in sorted(now - told):
            log = stack.layout.logs / f"{name}.log"
            report.step(f"{name} is in trouble ({state.lower()}). {log} ends with:\n{tail(log, 5)}")
        told = now
    report.plain("Freehold was stopped from elsewhere.")
    return _end(stack, report)


def _end(stack: Stack, report: Report) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # ending takes a few seconds, and half of it is worse than none
    report.plain("Stopping …")
    try:
        stack.stop()
    except StackFailed as problem:
        report.plain(f"error: {problem}")
        return 1
    report.plain("Stopped. No process is left; the data is kept.")
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped
