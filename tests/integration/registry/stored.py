"""A tenant's content as the store and the database have it, for tests of what comes, stays and goes."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from freehold.common import clock
from freehold.common.clock import Clock
from freehold.db.rls import tenant_scope
from freehold.registry import services
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.models import Blob, ModelFile, ModelRepo, Ref, Revision, Upload
from freehold.registry.storage import object_store
from freehold.registry.trees import Add, Entry
from freehold.tenancy.actors import Actor
from tests.factories.tenants import actor_in, make_tenant


def sha256_of(content: bytes) -> str:
    """Hex."""
    return hashlib.sha256(content).hexdigest()


def later(**amount: float) -> Clock:
    """A clock that is ahead."""
    return lambda: clock.now() + timedelta(**amount)


@dataclass(frozen=True)
class Keeper:
    """A tenant, and who acts in it."""

    tenant_id: uuid.UUID
    actor: Actor

    def add(self, content: bytes) -> str:
        """Uploads a small content."""
        return services.content_add(actor=self.actor, tenant_id=self.tenant_id, content=content).sha256

    def begin(self, content: bytes) -> Upload | None:
        """Begins an upload; None where its content is there."""
        wanted = services.Content(sha256=sha256_of(content), size=len(content))
        return services.uploads_begin(actor=self.actor, tenant_id=self.tenant_id, contents=[wanted])[wanted.sha256]

    def put(self, content: bytes) -> None:
        """Moves the bytes of an upload, and tells nobody."""
        writer = object_store().writer(self.tenant_id, sha256=sha256_of(content), size=len(content))
        writer.write(content)
        writer.commit()

    def finish(self, upload: Upload, content: bytes) -> None:
        """Says that they are there."""
        services.upload_finish(
            actor=self.actor,
            tenant_id=self.tenant_id,
            upload_id=upload.pk,
            sha256=sha256_of(content),
            verified=True,
        )

    def commit(self, name: str, files: Mapping[str, bytes]) -> Revision:
        """A revision with these files, which are uploaded; the model is made if need be."""
        entries = services.contents_add(actor=self.actor, tenant_id=self.tenant_id, contents=list(files.values()))
        return self.commit_entries(name, dict(zip(files, entries, strict=True)))

    def commit_entries(self, name: str, entries: Mapping[str, Entry]) -> Revision:
        """As commit, of what is there."""
        with tenant_scope(self.tenant_id):
            known = ModelRepo.objects.filter(name=name).exists()
        if not known:
            services.model_create(actor=self.actor, tenant_id=self.tenant_id, name=name)
        return services.revision_commit(
            actor=self.actor,
            tenant_id=self.tenant_id,
            repo=name,
            operations=[Add(path=path, entry=entry) for path, entry in entries.items()],
            message="Upload",
        )

    def delete(self, name: str) -> None:
        """Deletes a model."""
        with tenant_scope(self.tenant_id):
            model = ModelRepo.objects.get(name=name)
        services.model_delete(actor=self.actor, tenant_id=self.tenant_id, model_id=model.pk)

    @property
    def stored(self) -> set[str]:
        """What lies in the store."""
        return {entry.sha256 for entry in object_store().listing(self.tenant_id)}

    @property
    def known(self) -> set[str]:
        """What the database says is there."""
        with tenant_scope(self.tenant_id):
            return set(Blob.objects.filter(doomed_at=None).values_list("sha256", flat=True))

    @property
    def doomed(self) -> set[str]:
        """What it says is being removed."""
        with tenant_scope(self.tenant_id):
            return set(Blob.objects.exclude(doomed_at=None).values_list("sha256", flat=True))

    @property
    def referenced(self) -> set[str]:
        """What revisions refer to."""
        with tenant_scope(self.tenant_id):
            return set(ModelFile.objects.values_list("sha256", flat=True))

    @property
    def uploads(self) -> int:
        """How many are under way, or being removed."""
        with tenant_scope(self.tenant_id):
            return Upload.objects.count()

    def check(self) -> None:
        """What revisions refer to is there and is what it says; what is said to be there is."""
        assert self.referenced <= self.known
        assert self.known <= self.stored
        for sha256 in self.referenced:
            with object_store().open(self.tenant_id, sha256) as stream:
                assert sha256_of(stream.read()) == sha256


def keeper(slug: str = "acme") -> Keeper:
    """A new tenant."""
    tenant = make_tenant(slug)
    return Keeper(tenant_id=tenant.pk, actor=actor_in(tenant))


def committed(keeper: Keeper, name: str, contents: list[bytes]) -> Revision:
    """A revision that names contents without being inspected, as quick as rows are made; they must be there."""
    with tenant_scope(keeper.tenant_id):
        repo, _ = ModelRepo.objects.get_or_create(tenant_id=keeper.tenant_id, name=name)
        revision = Revision.objects.create(
            tenant_id=keeper.tenant_id,
            repo=repo,
            commit_id=uuid.uuid4().hex + "0" * 8,
            message="m",
            author="a",
            status=RevisionStatus.VERIFIED.value,
            digest="d",
        )
        Ref.objects.update_or_create(
            tenant_id=keeper.tenant_id,
            repo=repo,
            kind=RefKind.BRANCH.value,
            name="main",
            defaults={"revision": revision},
        )
        ModelFile.objects.bulk_create(
            ModelFile(
                tenant_id=keeper.tenant_id,
                revision=revision,
                path=f"{number}.txt",
                size=len(content),
                sha256=sha256_of(content),
                oid="0" * 40,
                lfs=False,
            )
            for number, content in enumerate(contents)
        )
    return revision
