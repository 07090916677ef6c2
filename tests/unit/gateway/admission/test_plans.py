"""What a request may take at most."""

from __future__ import annotations

from msgspec.structs import replace

from freehold.gateway.admission import scripts
from freehold.gateway.admission.ask import Ask
from freehold.gateway.admission.plans import Plan, Plans
from freehold.gateway.auth import Caller
from freehold.wire.follow import Snapshot
from freehold.wire.records import AccountRecord, KeyRecord, Limits, PriceRecord, PriceStep, RouteRecord, TenantRecord
from tests.unit.gateway.conftest import CALLER, ROUTE

PER_TOKEN = PriceRecord(steps=(PriceStep(valid_from=0, prompt=2_000_000, completion=3_000_000),))


def snapshot(*, prepaid: bool = False) -> Snapshot:
    """Everything costs 2 nanos a prompt token, 3 a completion token."""
    made = Snapshot()
    made.prices[""] = PER_TOKEN
    made.priced = True
    if prepaid:
        made.accounts["tnt_1"] = AccountRecord(prepaid=True)
    made.changes = 1
    return made


def ask(*, prompt: int = 10, outputs: int = 1, given: int = 0, default: int = 0, route: RouteRecord = ROUTE) -> Ask:
    """Of CALLER."""
    return Ask(CALLER, route, "acme/chat", prompt, outputs, given, default)


def row(want: Ask, *, prepaid: bool = True) -> list[int]:
    """As DECIDE gets it, without the plan's number."""
    return Plans(snapshot(prepaid=prepaid)).of(want).row(want, 1)[1:]


def test_max_tokens_is_needed_in_full_for_each_output() -> None:
    assert row(ask(outputs=3, given=100)) == [310, 0, 0, 0, 2 * 10 + 3 * 300, 0]


def test_nothing_generated_costs_the_prompt_alone() -> None:
    assert row(ask(outputs=0)) == [10, 0, 0, 0, 20, 0]


def test_no_answer_takes_more_than_the_context_and_many_prompts_take_what_they_take_together() -> None:
    route = replace(ROUTE, max_model_len=64)
    assert row(ask(prompt=20 * 64, outputs=2, given=1_000, route=route))[0] == 20 * 64 + 2 * 64


def test_what_is_wanted_without_max_tokens_is_the_apis_default_the_endpoints_or_the_context() -> None:
    route = replace(ROUTE, max_model_len=4_096, default_max_tokens=900)
    assert row(ask(default=16, route=route))[1:4] == [1, 16, 16]
    assert row(ask(outputs=2, route=route))[1:4] == [2, 900, 64]
    assert row(ask(route=replace(route, default_max_tokens=0)))[1:4] == [1, 4_096, 64]
    assert row(ask(route=replace(route, default_max_tokens=9_000)))[2] == 4_096


def test_each_further_token_costs_as_much_as_there_are_outputs() -> None:
    assert row(ask(outputs=4))[4:] == [20, 4 * 3]


def test_a_tenant_with_an_invoice_and_time_on_a_gpu_cost_nothing_here() -> None:
    assert row(ask(given=10), prepaid=False)[4] == 0
    by_time = replace(ROUTE, billing_mode="gpu_seconds")
    plan = Plans(snapshot(prepaid=True)).of(ask(given=10, route=by_time))
    assert plan.tenant == ""
    assert plan.is_free


def test_limits_of_all_three_scopes_count_and_change_with_the_snapshot() -> None:
    some = Limits(concurrency=1)
    caller = Caller(
        KeyRecord(id="key_1", tenant="tnt_1", limits=some), TenantRecord(slug="acme", cache_salt="s", limits=some)
    )
    known = snapshot()
    plans = Plans(known)
    want = Ask(caller, replace(ROUTE, limits=some), "acme/chat", 1, 1, 1, 0)
    assert _names(plans.of(want)) == ["k:key_1", "t:tnt_1", "e:ep_1"]
    want.caller = CALLER
    assert len(plans.of(want).bounds) == 3  # kept
    known.changes += 1
    assert _names(plans.of(want)) == ["e:ep_1"]


def test_a_limit_that_lua_could_not_count_is_cut_down_to_one_it_can() -> None:
    want = ask()
    want.route = replace(ROUTE, limits=Limits(tokens_per_minute=10**15))
    assert Plans(snapshot()).of(want).bounds[0].tokens * scripts.UNIT < 2**53


def _names(plan: Plan) -> list[str]:
    return [bound.scope.name for bound in plan.bounds]
