"""Model repos and what is in them. A revision and its files never change once written."""

from __future__ import annotations

from django.db import models

from freehold.db.models import TenantOwned
from freehold.registry.choices import RefKind, RevisionStatus


class ModelRepo(TenantOwned):
    """A customer's model under `<tenant slug>/<name>`; a history of revisions."""

    ID_PREFIX = "mdl"

    name = models.CharField(max_length=96)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="model_repo_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def full_name(self) -> str:
        """`<tenant slug>/<name>`: what Hub clients call it. Load the tenant along with it."""
        return f"{self.tenant.slug}/{self.name}"


class Blob(TenantOwned):
    """Content that a tenant has uploaded, in the object store under tenant/sha256. Shared by all its repos, by no other
    tenant."""

    ID_PREFIX = "blb"

    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="blob_content")]

    def __str__(self) -> str:
        return self.sha256


class Revision(TenantOwned):
    """One commit of a repo.

    Attributes:
        commit_id: 40 hex characters, as Git's are.
        author: label of the actor, for people.
        digest: SHA-256 hex over its files (registry.digests): what is inspected is what is served.
        inspection: facts about the model (inspection.facts.describe), and `missing`: what it lacks to be deployed.
    """

    ID_PREFIX = "rev"

    repo = models.ForeignKey(ModelRepo, on_delete=models.CASCADE, related_name="revisions")
    commit_id = models.CharField(max_length=40)
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    message = models.TextField()
    description = models.TextField(blank=True)
    author = models.TextField()
    status = models.TextField(choices=[(status.value, status.value) for status in RevisionStatus])
    digest = models.CharField(max_length=64)
    inspection = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["repo", "commit_id"], name="revision_commit_id")]

    def __str__(self) -> str:
        return self.commit_id


class Ref(TenantOwned):
    """A branch or tag: a name that points at a revision."""

    ID_PREFIX = "ref"

    repo = models.ForeignKey(ModelRepo, on_delete=models.CASCADE, related_name="refs")
    kind = models.TextField(choices=[(kind.value, kind.value) for kind in RefKind])
    name = models.CharField(max_length=200)
    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="refs")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["repo", "kind", "name"], name="ref_name")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ModelFile(TenantOwned):
    """A file of a revision. `oid` is its Git object id: of the content, or, for a large file, of its LFS pointer."""

    ID_PREFIX = "fil"

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=1024)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    oid = models.CharField(max_length=40)
    lfs = models.BooleanField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["revision", "path"], name="model_file_path")]
        indexes = [models.Index(fields=["tenant", "sha256"], name="model_file_content")]

    def __str__(self) -> str:
        return self.path


class RevisionHold(TenantOwned):
    """Somebody needs a revision (an endpoint that serves it): it and its repo cannot be deleted."""

    ID_PREFIX = "hld"

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="holds")
    holder = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["revision", "holder"], name="revision_hold_once")]

    def __str__(self) -> str:
        return f"{self.holder} holds {self.revision_id}"
