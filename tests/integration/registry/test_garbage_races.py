"""Uploads, commits and deletions against collectors, step by step in every order, and all at once."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from freehold.common import clock
from freehold.common.errors import Conflict, FreeholdError, NotFound, Refused, Unavailable
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, commits, contents, garbage, services
from freehold.registry.inspection.run import Report
from freehold.registry.models import ModelRepo, Upload
from freehold.registry.storage import object_store
from freehold.registry.trees import Entry
from tests.factories.tenants import SYSTEM
from tests.integration.registry.stored import Keeper, keeper, sha256_of

CONTENTS = (b"one", b"two")  # few, and of one size, so that everything meets


def _not_inspected(files: object) -> Report:
    return Report(problems=(), missing=("config.json",), weights=(), facts={})


@dataclass
class Transfer:
    """Bytes on their way: begun, then in the store, then said to be there."""

    upload: Upload
    content: bytes | None
    sent: bool = False


class Lives(RuleBasedStateMachine):
    """One tenant's content. Collectors do each step whenever they like, and may never do the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = timedelta(0)
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(clock, "now", self._now)
        self._patch.setattr(contents, "_DOOMED_SECONDS", 0.0)
        self._patch.setattr(contents, "_PAUSE_SECONDS", 0.0)
        self._patch.setattr(commits, "inspect", _not_inspected)
        self._of = keeper(f"t-{uuid.uuid4().hex}")
        self._transfers: list[Transfer] = []
        self._claimed: list[garbage.Claim] = []
        self._removed: list[garbage.Claim] = []

    def _now(self) -> datetime:
        return _real_now() + self._ahead

    @rule(content=st.sampled_from(CONTENTS))
    def begin(self, content: bytes) -> None:
        with contextlib.suppress(Unavailable):
            upload = self._of.begin(content)
            if upload is not None:
                self._transfers.append(Transfer(upload, content))

    @rule()
    def begin_unnamed(self) -> None:
        with contextlib.suppress(Unavailable):
            upload = services.upload_begin_unnamed(actor=self._of.actor, tenant_id=self._of.tenant_id, size=3)
            self._transfers.append(Transfer(upload, None))

    @precondition(lambda self: any(not transfer.sent for transfer in self._transfers))
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        transfer = data.draw(st.sampled_from([each for each in self._transfers if not each.sent]))
        if transfer.content is None:
            transfer.content = data.draw(st.sampled_from(CONTENTS))
        self._of.put(transfer.content)
        transfer.sent = True

    @precondition(lambda self: any(transfer.sent for transfer in self._transfers))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        transfer = data.draw(st.sampled_from([each for each in self._transfers if each.sent]))
        self._transfers.remove(transfer)
        assert transfer.content is not None
        with contextlib.suppress(NotFound):
            self._of.finish(transfer.upload, transfer.content)

    @rule(content=st.sampled_from(CONTENTS))
    def add_small(self, content: bytes) -> None:
        with contextlib.suppress(Unavailable):
            self._of.add(content)

    @rule(content=st.sampled_from(CONTENTS))
    def commit(self, content: bytes) -> None:
        entry = Entry(sha256=sha256_of(content), size=len(content), oid=sha256_of(content)[:40], lfs=True)
        with contextlib.suppress(Refused):
            self._of.commit_entries("tiny", {"a.txt": entry})

    @rule()
    def delete(self) -> None:
        with contextlib.suppress(ModelRepo.DoesNotExist):
            self._of.delete("tiny")

    @rule()
    def give_up(self) -> None:
        services.content_discard(actor=self._of.actor, tenant_id=self._of.tenant_id, idle=timedelta(0))

    @precondition(lambda self: self._transfers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        transfer = data.draw(st.sampled_from(self._transfers))
        with contextlib.suppress(NotFound):
            services.upload_cancel(actor=self._of.actor, tenant_id=self._of.tenant_id, upload_id=transfer.upload.pk)

    @rule(minutes=st.sampled_from([16, 8 * 24 * 60]))
    def wait(self, minutes: int) -> None:
        self._ahead += timedelta(minutes=minutes)
        self._claimed = [replace(each, taken=each.taken - 60 * minutes) for each in self._claimed]

    @rule()
    def collect_claim(self) -> None:
        claimed = garbage.claim(tenant_id=self._of.tenant_id, now=self._now)
        if claimed:
            self._claimed.append(claimed)

    @precondition(lambda self: self._claimed)
    @rule(data=st.data())
    def collect_remove(self, data: st.DataObject) -> None:
        claimed = data.draw(st.sampled_from(self._claimed))
        self._claimed.remove(claimed)
        self._removed.append(garbage.remove(claimed))

    @precondition(lambda self: self._removed)
    @rule(data=st.data())
    def collect_forget(self, data: st.DataObject) -> None:
        removed = data.draw(st.sampled_from(self._removed))
        self._removed.remove(removed)
        garbage.forget(removed)

    @rule()
    def collect_leftovers(self) -> None:
        garbage.leftovers_collect(tenant_id=self._of.tenant_id, now=self._now)

    @invariant()
    def nothing_is_lost(self) -> None:
        self._of.check()

    def teardown(self) -> None:
        """Whoever was under way died; what is left goes in the end."""
        try:
            self.wait(8 * 24 * 60)
            garbage.collect(tenant_id=self._of.tenant_id, now=self._now)
            self.wait(8 * 24 * 60)
            garbage.leftovers_collect(tenant_id=self._of.tenant_id, now=self._now)
            assert self._of.stored == self._of.known == self._of.referenced
            assert self._of.uploads == 0
            self._of.check()
        finally:
            self._patch.undo()
            for sha256 in self._of.stored:
                object_store().delete(self._of.tenant_id, sha256)


_real_now = clock.now


def test_in_whatever_order_nothing_that_is_referred_to_is_lost_and_nothing_else_stays(committed_db: None) -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # to shrink a failure takes many minutes
        ),
    )


@pytest.fixture
def acme(committed_db: None) -> Iterator[Keeper]:
    """A tenant with an empty store."""
    found = keeper()
    yield found
    for sha256 in found.stored:
        object_store().delete(found.tenant_id, sha256)


class Crowd:
    """Threads that go on until enough is done, and what went wrong in them."""

    def __init__(self, enough: dict[str, int], *, seconds: float) -> None:
        self._enough, self._until = enough, time.monotonic() + seconds
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self.done: dict[str, int] = {}

    def add(self, action: Callable[[], str], *, pause: float = 0.0) -> None:
        """`action` says what it has done, for the count; `pause` seconds after each."""
        nap = threading.Event()

        def going_on() -> None:
            try:
                while time.monotonic() < self._until and not self.errors and not self._is_enough():
                    what = action()
                    self.done[what] = self.done.get(what, 0) + 1
                    nap.wait(pause)
            except BaseException as error:  # noqa: BLE001 - raised again by run
                self.errors.append(error)
            finally:
                connection.close()

        self._threads.append(threading.Thread(target=going_on))

    def _is_enough(self) -> bool:
        return all(self.done.get(what, 0) >= count for what, count in self._enough.items())

    def run(self) -> None:
        """Raises what the first of them died of; fails where time was up before."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
        assert self._is_enough(), self.done


def test_models_that_come_and_go_while_two_collectors_run_keep_all_that_is_theirs(
    acme: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "keep_for", lambda: timedelta(milliseconds=30))
    monkeypatch.setattr(garbage, "keep_for", lambda: timedelta(milliseconds=30))
    monkeypatch.setattr(commits, "inspect", _not_inspected)
    shared = [b"content %d " % number * (number + 1) for number in range(12)]

    def customer(name: str) -> Callable[[], str]:
        dice = random.Random(name)

        def act() -> str:
            if dice.random() < 0.25:
                with contextlib.suppress(ModelRepo.DoesNotExist, NotFound):
                    acme.delete(name)
                return "deleted"
            files = {f"{number}.txt": dice.choice(shared) for number in range(dice.randint(1, 4))}
            try:
                acme.commit(name, files)
            except (Refused, Unavailable, NotFound, Conflict):  # it was collected in between: upload it again
                return "refused"
            return "committed"

        return act

    def collector() -> str:
        return "collected" if garbage.collect(tenant_id=acme.tenant_id).contents else "looked"

    def sweeper() -> str:
        garbage.leftovers_collect(tenant_id=acme.tenant_id)
        return "swept"

    crowd = Crowd({"committed": 25, "collected": 25, "refused": 5}, seconds=60)
    for name in ("first", "second", "third", "fourth"):
        crowd.add(customer(name))
    crowd.add(collector, pause=0.01)
    crowd.add(collector, pause=0.01)
    crowd.add(sweeper, pause=0.1)
    crowd.run()
    acme.check()

    with tenant_scope(acme.tenant_id):
        Upload.objects.update(expires_at=clock.now())
    services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    time_is_up = time.monotonic() + 10
    while acme.stored != acme.referenced and time.monotonic() < time_is_up:
        garbage.collect(tenant_id=acme.tenant_id)
        garbage.leftovers_collect(tenant_id=acme.tenant_id)
    assert acme.stored == acme.known == acme.referenced
    acme.check()


def test_two_uploads_at_once_cannot_both_take_the_last_room(acme: Keeper) -> None:
    accounts.quota_set(actor=SYSTEM, tenant_id=acme.tenant_id, quota_bytes=100)
    barrier = threading.Barrier(6)
    outcomes: list[str] = []

    def take(number: int) -> None:
        try:
            barrier.wait(10)
            acme.begin(bytes([number]) * 60)
            outcomes.append("begun")
        except FreeholdError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["begun", *["quota_exceeded"] * 5]
