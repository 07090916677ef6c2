"""Garbage collection on the real database and store: what goes, what stays, and who dies or meets whom on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from freehold.audit.models import AuditEvent
from freehold.common import clock
from freehold.common.errors import NotFound, PermissionDenied, Refused, Unavailable
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import accounts, contents, discards, garbage, services
from freehold.registry.accounts import QuotaExceeded
from freehold.registry.checking import storage_check
from freehold.registry.models import Blob, ModelFile, Upload, WeightHeader
from freehold.registry.storage import object_store
from freehold.registry.storage.base import PART_BYTES
from freehold.registry.storage.bucket import Location
from freehold.registry.storage.local import LocalStore
from freehold.registry.trees import Entry
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.wire import hints
from tests.factories.models_on_disk import model_files
from tests.factories.tenants import actor_in
from tests.integration.registry.stored import Keeper, committed, keeper, later, sha256_of
from workers.jobs import garbage as job

ROOT = Path(__file__).resolve().parents[3]
KEPT = timedelta(hours=7 * 24)
GONE = later(days=7, minutes=1)
LARGE = 2 * PART_BYTES + 1


@pytest.fixture
def acme(committed_db: None) -> Iterator[Keeper]:
    """A tenant with an empty store."""
    found = keeper()
    yield found
    for sha256 in found.stored:
        object_store().delete(found.tenant_id, sha256)


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What workers are told to look at."""
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(hints, "send", lambda *arguments, **_: sent.append(arguments))
    return sent


def collect(of: Keeper, now: clock.Clock = clock.now) -> garbage.Collected:
    return garbage.collect(tenant_id=of.tenant_id, now=now)


# What goes, and when


def test_content_that_nobody_commits_is_kept_for_a_week(acme: Keeper) -> None:
    sha256 = acme.add(b"abandoned")
    assert collect(acme, later(days=6, hours=23)) == garbage.Collected()
    assert acme.stored == {sha256}
    assert collect(acme, GONE) == garbage.Collected(contents=1, bytes=9)
    assert acme.stored == acme.known == acme.doomed == set()
    assert accounts.storage_usage(tenant_id=acme.tenant_id).used_bytes == 0


def test_what_a_model_holds_stays_for_ever(acme: Keeper) -> None:
    first = acme.commit("tiny", {"a.txt": b"one", "b.txt": b"two"})
    acme.commit("tiny", {"a.txt": b"three"})
    services.revision_hold(tenant_id=acme.tenant_id, revision_id=first.pk, holder="ep_1")
    assert collect(acme, later(days=3650)) == garbage.Collected()
    assert acme.stored == {sha256_of(content) for content in (b"one", b"two", b"three")}
    acme.check()


def test_deleting_a_model_frees_at_once_what_no_other_holds(acme: Keeper, hinted: list[tuple[str, ...]]) -> None:
    files = model_files()
    acme.commit("first", files)
    acme.commit("second", {path: files[path] for path in ("README.md", "config.json")} | {"a.txt": b"its own"})
    with tenant_scope(acme.tenant_id):
        assert WeightHeader.objects.count() == 1
    acme.delete("first")
    assert (hints.COLLECT_GARBAGE, str(acme.tenant_id)) in hinted
    job.collect(acme.tenant_id)
    assert acme.stored == {sha256_of(content) for content in (files["README.md"], files["config.json"], b"its own")}
    acme.check()
    with tenant_scope(acme.tenant_id):
        assert WeightHeader.objects.count() == 0
        event = AuditEvent.objects.get(action="storage.collect")
    assert event.detail["contents"] == len(files) - 2


def test_a_commit_that_changed_nothing_keeps_nothing_beyond_its_model(acme: Keeper) -> None:
    for _ in range(2):
        acme.commit("tiny", {"a.txt": b"same"})
    acme.delete("tiny")
    assert collect(acme).contents == 1


def test_whoever_was_told_that_content_is_there_has_a_week_to_commit_it(acme: Keeper) -> None:
    acme.commit("old", {"a.txt": b"shared"})
    assert acme.begin(b"shared") is None
    acme.delete("old")
    assert collect(acme) == garbage.Collected()
    acme.commit("new", {"a.txt": b"shared"})
    acme.delete("new")
    assert collect(acme).contents == 1


def test_an_upload_that_ran_out_leaves_nothing(acme: Keeper) -> None:
    assert acme.begin(b"never sent") is not None
    assert acme.begin(b"sent, and nobody said so") is not None
    acme.put(b"sent, and nobody said so")
    large = services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=LARGE)
    assert collect(acme) == garbage.Collected()
    assert collect(acme, GONE).uploads == 3
    assert (acme.uploads, acme.stored) == (0, set())
    with pytest.raises(NotFound):
        object_store().parts(large.multipart)


def test_an_upload_that_ran_out_leaves_the_content_that_came_another_way(acme: Keeper) -> None:
    upload = acme.begin(b"twice")
    assert upload is not None
    unnamed = services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=5)
    acme.put(b"twice")
    acme.finish(unnamed, b"twice")
    committed(acme, "tiny", [b"twice"])
    assert collect(acme, GONE).uploads == 1
    acme.check()


def test_one_tenants_garbage_is_not_anothers(acme: Keeper) -> None:
    rival = keeper("rival")
    sha256 = acme.add(b"both have it")
    rival.add(b"both have it")
    assert collect(rival, GONE).contents == 1
    assert acme.stored == {sha256}
    assert rival.stored == set()
    assert acme.tenant_id in garbage.tenants()
    assert rival.tenant_id not in garbage.tenants()


def test_many_go_in_batches(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "BATCH", 3)
    services.contents_add(
        actor=acme.actor, tenant_id=acme.tenant_id, contents=[f"{number}".encode() for number in range(8)]
    )
    assert collect(acme, GONE).contents == 8
    assert acme.stored == set()


def test_a_turn_ends_and_the_next_goes_on(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.add(b"x")
    services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    monkeypatch.setattr(job, "TURN_SECONDS", -1.0)
    assert job.collect()
    monkeypatch.undo()
    assert not job.collect()
    assert acme.stored == set()


# Meetings


def test_what_is_being_removed_is_uploaded_again_once_it_is_gone(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_DOOMED_SECONDS", 0.05)
    monkeypatch.setattr(contents, "_PAUSE_SECONDS", 0.01)
    acme.add(b"again")
    claimed = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    assert claimed
    with pytest.raises(Unavailable, match="just being removed"):
        acme.add(b"again")
    with pytest.raises(Refused, match="was not uploaded"):
        acme.commit_entries("tiny", contents.contents_find(tenant_id=acme.tenant_id, sha256s=[]) | {"a.txt": _entry()})
    garbage.finish(claimed)
    acme.commit("tiny", {"a.txt": b"again"})
    acme.check()


def _entry() -> Entry:
    return Entry(sha256=sha256_of(b"again"), size=5, oid="0" * 40, lfs=True)


def test_an_upload_waits_for_the_removal_of_its_content(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.add(b"again")
    claimed = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    clockwork = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: garbage.finish(claimed))
    monkeypatch.setattr(contents, "time", clockwork)
    acme.commit("tiny", {"a.txt": b"again"})
    acme.check()


def test_bytes_that_come_after_their_upload_was_cancelled_become_no_content(acme: Keeper) -> None:
    upload = acme.begin(b"late")
    assert upload is not None
    services.upload_cancel(actor=acme.actor, tenant_id=acme.tenant_id, upload_id=upload.pk)
    acme.put(b"late")
    with pytest.raises(NotFound, match="Start it again"):
        acme.finish(upload, b"late")
    assert acme.known == set()
    assert accounts.storage_usage(tenant_id=acme.tenant_id).used_bytes == 0


def test_a_small_file_whose_upload_is_cancelled_while_it_is_written_is_not_taken_for_there(
    acme: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contents._register

    def cancelled(tenant_id: uuid.UUID, uploads: list[Upload]) -> None:
        for upload in uploads:
            services.upload_cancel(actor=acme.actor, tenant_id=tenant_id, upload_id=upload.pk)
        real(tenant_id, uploads)

    monkeypatch.setattr(contents, "_register", cancelled)
    with pytest.raises(Unavailable, match="removed meanwhile"):
        acme.add(b"small")
    assert acme.known == acme.stored == set()
    monkeypatch.undo()
    acme.add(b"small")
    acme.check()


def test_content_that_an_upload_without_a_hash_may_turn_out_to_be_stays(acme: Keeper) -> None:
    acme.add(b"other")
    sha256 = acme.add(b"twice")
    acme.add(b"longer than those")
    unnamed = services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=5)
    with tenant_scope(acme.tenant_id):
        Upload.objects.filter(pk=unnamed.pk).update(expires_at=clock.now() + timedelta(days=30))
    assert collect(acme, GONE).contents == 1
    acme.finish(unnamed, b"twice")
    acme.check()
    assert collect(acme, GONE).contents == 2
    assert sha256 not in acme.stored


def test_an_upload_without_a_hash_waits_while_content_of_its_size_is_being_removed(acme: Keeper) -> None:
    acme.add(b"twice")
    claimed = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    with pytest.raises(Unavailable, match="of this size"):
        services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=5)
    garbage.finish(claimed)
    services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=5)


def test_content_under_an_upload_stays_until_that_ends(acme: Keeper) -> None:
    """A row says so where content came another way than by its upload."""
    upload = acme.begin(b"twice")
    assert upload is not None
    unnamed = services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=5)
    acme.put(b"twice")
    acme.finish(unnamed, b"twice")
    with tenant_scope(acme.tenant_id):
        Blob.objects.update(keep_until=clock.now())
    assert collect(acme) == garbage.Collected()
    acme.finish(upload, b"twice")
    assert collect(acme).contents == 1


def test_two_collectors_take_different_garbage(acme: Keeper) -> None:
    acme.add(b"1")
    acme.add(b"2")
    one = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    other = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    assert (len(one.blobs), len(other.blobs)) == (2, 0)


def test_a_commit_between_looking_and_locking_is_seen(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.add(b"now or never")
    real = accounts.locked

    def overtaken(tenant_id: uuid.UUID) -> object:
        monkeypatch.setattr(accounts, "locked", real)
        committed(acme, "tiny", [b"now or never"])
        return real(tenant_id)

    monkeypatch.setattr(accounts, "locked", overtaken)
    assert not garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    acme.check()


# Deaths


class Died(BaseException):
    """As kill -9: nothing is tidied up."""


def _dies(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, after: bool) -> None:
    real = getattr(owner, name)

    def dying(*arguments: object, **named: object) -> None:
        if after:
            real(*arguments, **named)
        raise Died

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [(LocalStore, "delete", False), (LocalStore, "delete", True), (garbage, "forget", False)],
    ids=["before the bytes go", "after some have gone", "before the rows go"],
)
def test_what_a_collector_that_died_leaves_behind_is_finished_when_its_lease_is_over(
    acme: Keeper, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, after: bool
) -> None:
    monkeypatch.setattr(contents, "_DOOMED_SECONDS", 0.0)
    acme.add(b"1")
    acme.add(b"2")
    assert acme.begin(b"unfinished") is not None
    committed(acme, "tiny", [b"3"])
    acme.add(b"3")
    with monkeypatch.context() as patch:
        _dies(patch, owner, name, after=after)
        with pytest.raises(Died):
            collect(acme, GONE)
    assert acme.doomed == {sha256_of(b"1"), sha256_of(b"2")}
    acme.check()
    assert collect(acme, GONE) == garbage.Collected()
    with pytest.raises(Unavailable):
        acme.add(b"1")
    collected = collect(acme, later(days=7, minutes=17))
    assert (collected.contents, collected.uploads) == (2, 1)
    assert acme.stored == acme.known == {sha256_of(b"3")}
    assert acme.uploads == 0
    acme.commit("again", {"a.txt": b"1"})
    acme.check()


@pytest.mark.parametrize("step", ["remove", "forget"])
def test_a_collector_killed_between_its_steps_is_finished_by_the_next(acme: Keeper, step: str) -> None:
    acme.add(b"killed")
    services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    program = (
        "import os, django; django.setup(set_prefix=False)\n"
        "from freehold.registry import garbage\n"
        f"garbage.{step} = lambda *_: os.kill(os.getpid(), 9)\n"
        "from django.core.management import call_command\n"
        "call_command('storage_collect')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert acme.doomed == {sha256_of(b"killed")}
    assert collect(acme) == garbage.Collected()
    assert collect(acme, later(minutes=16)).contents == 1
    assert acme.stored == acme.doomed == set()


def test_a_collector_that_wakes_up_late_removes_nothing(acme: Keeper) -> None:
    acme.add(b"again")
    sleeping = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    assert collect(acme, later(days=7, minutes=17)).contents == 1
    acme.commit("tiny", {"a.txt": b"again"})
    woken = replace(sleeping, taken=time.monotonic() - garbage.RENEW_SECONDS - 1)
    assert garbage.finish(woken).contents == 0
    acme.check()


def test_a_collector_that_is_slow_makes_sure_of_its_claim(acme: Keeper) -> None:
    acme.add(b"1")
    claimed = garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    slow = replace(claimed, taken=time.monotonic() - garbage.RENEW_SECONDS - 1)
    assert garbage.finish(slow).contents == 1
    assert acme.stored == acme.doomed == set()


def test_a_store_that_fails_is_tried_again_later(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.add(b"1")
    stuck = acme.add(b"2")
    real = LocalStore.delete

    def failing(store: LocalStore, tenant_id: uuid.UUID, sha256: str) -> None:
        if sha256 == stuck:
            raise Unavailable("The object store is away.")
        real(store, tenant_id, sha256)

    monkeypatch.setattr(LocalStore, "delete", failing)
    assert collect(acme, GONE) == garbage.Collected(contents=1, bytes=1, failed=1)
    assert acme.doomed == {stuck}
    with pytest.raises(CommandError, match=r"did not let 1 go"):
        _overdue(acme, lambda: call_command("storage_collect", "acme"))
    monkeypatch.undo()
    assert collect(acme, later(minutes=16)).contents == 1
    assert acme.stored == set()


def _overdue(of: Keeper, action: Callable[[], object]) -> None:
    with tenant_scope(of.tenant_id):
        Blob.objects.exclude(doomed_at=None).update(doomed_at=clock.now() - garbage.LEASE)
    action()


# What no row speaks of


def _aged(of: Keeper, content: bytes, *, hours: int = 8 * 24) -> str:
    of.put(content)
    path = object_store().path(of.tenant_id, sha256_of(content))
    assert path is not None
    moment = time.time() - hours * 3600
    os.utime(path, (moment, moment))
    return sha256_of(content)


def test_content_that_no_row_speaks_of_goes_when_it_is_old(acme: Keeper) -> None:
    _aged(acme, b"old")
    young = _aged(acme, b"young", hours=6 * 24)
    assert acme.begin(b"under way") is not None
    protected = _aged(acme, b"under way")
    services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=7)
    of_a_size = _aged(acme, b"7 bytes")
    committed(acme, "tiny", [b"its row is lost"])
    lost = _aged(acme, b"its row is lost")
    path = object_store().path(acme.tenant_id, young)
    assert path is not None
    (path.parent / "README").write_text("not ours")
    assert garbage.leftovers_collect(tenant_id=acme.tenant_id) == garbage.Collected(contents=1, bytes=3)
    assert acme.stored == {young, protected, of_a_size, lost, "README"}
    assert acme.doomed == set()
    (path.parent / "README").unlink()


def test_an_upload_that_begins_while_a_leftover_is_found_keeps_it(
    acme: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    _aged(acme, b"wanted")
    real = accounts.locked

    def overtaken(tenant_id: uuid.UUID) -> object:
        monkeypatch.setattr(accounts, "locked", real)
        assert acme.begin(b"wanted") is not None
        return real(tenant_id)

    monkeypatch.setattr(accounts, "locked", overtaken)
    assert garbage.leftovers_collect(tenant_id=acme.tenant_id) == garbage.Collected()
    assert acme.stored == {sha256_of(b"wanted")}


def test_whoever_uploads_a_leftover_waits_for_its_removal(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_DOOMED_SECONDS", 0.0)
    _aged(acme, b"wanted")
    seen: list[str] = []

    def meeting(claimed: garbage.Claim) -> garbage.Claim:
        with pytest.raises(Unavailable) as refused:
            acme.add(b"wanted")
        seen.append(refused.value.message)
        return real(claimed)

    real = garbage.remove
    monkeypatch.setattr(garbage, "remove", meeting)
    assert garbage.leftovers_collect(tenant_id=acme.tenant_id).contents == 1
    assert len(seen) == 1
    acme.commit("tiny", {"a.txt": b"wanted"})
    acme.check()


def test_the_sweep_looks_at_every_tenant_and_at_partial_files(acme: Keeper) -> None:
    _aged(acme, b"old")
    partial = Path(os.environ["FREEHOLD_DATA"]) / "objects" / ".partial" / f"{sha256_of(b'x')}.0123"
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"x")
    os.utime(partial, (0, 0))
    job.sweep()
    assert acme.stored == set()
    assert not partial.exists()


# Room back, now


def test_cancelling_an_upload_frees_its_room_and_its_parts(acme: Keeper) -> None:
    upload = services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=LARGE)
    assert accounts.storage_usage(tenant_id=acme.tenant_id).reserved_bytes == LARGE
    rival = keeper("rival")
    with pytest.raises(NotFound):
        services.upload_cancel(actor=rival.actor, tenant_id=rival.tenant_id, upload_id=upload.pk)
    services.upload_cancel(actor=acme.actor, tenant_id=acme.tenant_id, upload_id=upload.pk)
    assert accounts.storage_usage(tenant_id=acme.tenant_id).used_bytes == 0
    assert acme.uploads == 0
    with pytest.raises(NotFound):
        object_store().parts(upload.multipart)
    with pytest.raises(NotFound):
        services.upload_cancel(actor=acme.actor, tenant_id=acme.tenant_id, upload_id=upload.pk)
    with tenant_scope(acme.tenant_id):
        assert AuditEvent.objects.filter(action="upload.cancel").count() == 1


def test_what_nobody_uses_can_be_given_up_before_its_time(acme: Keeper, hinted: list[tuple[str, ...]]) -> None:
    acme.commit("tiny", {"a.txt": b"used"})
    acme.add(b"of a refused commit")
    assert acme.begin(b"abandoned") is not None
    with tenant_scope(acme.tenant_id):
        yesterday = clock.now() + KEPT - timedelta(hours=25)
        Blob.objects.filter(keep_until__gt=clock.now()).update(keep_until=yesterday)
        Upload.objects.update(expires_at=yesterday)
    acme.add(b"of somebody who is uploading")
    assert acme.begin(b"under way") is not None
    found = services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id)
    assert found == discards.Discarded(contents=1, uploads=1, freed_bytes=28)
    assert hinted[-1] == (hints.COLLECT_GARBAGE, str(acme.tenant_id))
    assert accounts.storage_usage(tenant_id=acme.tenant_id).reserved_bytes == 9
    job.collect(acme.tenant_id)
    assert acme.stored == {sha256_of(b"used"), sha256_of(b"of somebody who is uploading")}
    assert acme.uploads == 1
    found = services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    assert (found.contents, found.uploads) == (1, 1)
    job.collect(acme.tenant_id)
    assert acme.stored == {sha256_of(b"used")}
    acme.check()


def test_only_who_may_write_gives_up_content(acme: Keeper) -> None:
    with system_scope("a test looks for a tenant"):
        viewer = actor_in(Tenant.objects.get(pk=acme.tenant_id), Role.VIEWER)
    with pytest.raises(PermissionDenied):
        services.content_discard(actor=viewer, tenant_id=acme.tenant_id)
    with pytest.raises(PermissionDenied):
        services.upload_cancel(actor=viewer, tenant_id=acme.tenant_id, upload_id=uuid.uuid4())


def test_an_upload_that_ends_after_its_room_was_given_away_needs_room_again(acme: Keeper) -> None:
    accounts.quota_set(actor=garbage._ACTOR, tenant_id=acme.tenant_id, quota_bytes=10)
    upload = acme.begin(b"8 bytes!")
    assert upload is not None
    acme.put(b"8 bytes!")
    services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    acme.add(b"5 now")
    with pytest.raises(QuotaExceeded):
        acme.finish(upload, b"8 bytes!")
    assert accounts.storage_usage(tenant_id=acme.tenant_id).stored_bytes == 5
    collect(acme)
    assert acme.stored == {sha256_of(b"5 now")}


# Another store


def test_a_bucket_is_collected_and_checked_as_a_folder_is(
    s3_settings: Location, committed_db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = keeper()
    acme.add(b"kept")
    acme.add(b"given up")
    committed(acme, "tiny", [b"kept"])
    large = acme.begin(bytes(LARGE))
    assert large is not None
    assert object_store().parts(large.multipart) == []
    call_command("storage_check", "--hash")
    services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    assert collect(acme) == garbage.Collected(contents=1, uploads=1, bytes=8)
    assert acme.stored == acme.known == {sha256_of(b"kept")}
    with pytest.raises(NotFound):
        object_store().parts(large.multipart)
    object_store().delete(acme.tenant_id, sha256_of(b"kept"))
    with pytest.raises(CommandError, match="1 problems"):
        call_command("storage_check")
    assert "missing" in capsys.readouterr().out


# Checking


def test_the_check_names_everything_that_does_not_fit(acme: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    acme.commit("tiny", {"a.txt": b"whole", "b.txt": b"missing", "c.txt": b"short", "d.txt": b"other"})
    call_command("storage_check", "--hash")
    assert "everything fits" in capsys.readouterr().out
    store = Path(os.environ["FREEHOLD_DATA"]) / "objects" / str(acme.tenant_id)
    (store / sha256_of(b"missing")).unlink()
    (store / sha256_of(b"short")).write_bytes(b"s")
    (store / sha256_of(b"other")).write_bytes(b"0ther")
    _aged(acme, b"nobody's")
    committed(acme, "lost", [b"no row"])
    acme.add(b"stuck")
    garbage.claim(tenant_id=acme.tenant_id, now=GONE)
    with tenant_scope(acme.tenant_id):
        Blob.objects.exclude(doomed_at=None).update(doomed_at=clock.now() - timedelta(hours=1))
    kinds = {problem.kind: problem.name for problem in storage_check(tenant_id=acme.tenant_id, hashed=True)}
    assert kinds == {
        "missing": sha256_of(b"missing"),
        "size": sha256_of(b"short"),
        "hash": sha256_of(b"other"),
        "unknown": sha256_of(b"nobody's"),
        "dangling": sha256_of(b"no row"),
        "stuck": sha256_of(b"stuck"),
    }
    before = acme.stored
    with pytest.raises(CommandError, match="5 problems"):
        call_command("storage_check", "acme")
    out = capsys.readouterr().out
    assert f"acme: missing {sha256_of(b'missing')}: is not in the store; 7 bytes should be" in out
    assert acme.stored == before


def test_the_commands_know_no_other_tenants(acme: Keeper) -> None:
    for command in ("storage_check", "storage_collect", "storage_quota"):
        with pytest.raises(CommandError, match="no tenant 'nobody'"):
            call_command(command, "nobody")


def test_the_command_collects_and_says_what(acme: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    acme.add(b"x" * 2048)
    _aged(acme, b"old")
    services.content_discard(actor=acme.actor, tenant_id=acme.tenant_id, idle=timedelta(0))
    call_command("storage_collect", "--leftovers")
    assert "acme: 2 contents (2.0 KiB), 0 uploads" in capsys.readouterr().out
    assert acme.stored == set()
    with tenant_scope(acme.tenant_id):
        assert ModelFile.objects.count() == 0
