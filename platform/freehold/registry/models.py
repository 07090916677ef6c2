"""Model repos and what is in them. A revision and its files never change once written."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from freehold.common import clock
from freehold.db.fields import EncryptedTextField
from freehold.db.models import TenantOwned
from freehold.registry.choices import ImportFileStatus, ImportKind, ImportStatus, RefKind, RevisionStatus
from freehold.registry.storage.base import Multipart


class ModelRepo(TenantOwned):
    """A customer's model under `<tenant slug>/<name>`; a history of revisions."""

    ID_PREFIX = "mdl"

    name = models.CharField(max_length=96)
    description = models.TextField(blank=True, default="", db_default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="model_repo_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def full_name(self) -> str:
        """`<tenant slug>/<name>`: what Hub clients call it. Load the tenant along with it."""
        return f"{self.tenant.slug}/{self.name}"


class ModelRepoAlias(TenantOwned):
    """A name that a model had before: it leads there until another model takes it (registry.moves)."""

    ID_PREFIX = "mal"

    name = models.CharField(max_length=96)
    repo = models.ForeignKey(ModelRepo, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="model_repo_alias_name")]

    def __str__(self) -> str:
        return self.name


class StorageAccount(TenantOwned):
    """What a tenant may keep. Its row is also the lock under which content is promised, added and collected
    (registry.accounts).

    Attributes:
        quota_bytes: None for the installation's default (STORAGE_QUOTA_BYTES), -1 for no limit (accounts.NO_LIMIT).
    """

    ID_PREFIX = "sto"

    quota_bytes = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="storage_account_once")]

    def __str__(self) -> str:
        return f"storage of {self.tenant_id}"


class Blob(TenantOwned):
    """Content that a tenant has uploaded, in the object store under tenant/sha256. Shared by all its repos, by no other
    tenant.

    Attributes:
        verified_at: when its bytes were hashed by us; None while nobody has (they came by a presigned URL).
        verify_claimed_until: somebody hashes it until then.
        keep_until: not collected before then, though no revision refers to it: a commit may be about to.
        doomed_at: it is being removed from the store since then; whoever wants to upload it again waits for that. Also
            the lease of who removes it (registry.garbage).
    """

    ID_PREFIX = "blb"

    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    verified_at = models.DateTimeField(null=True)
    verify_claimed_until = models.DateTimeField(null=True)
    keep_until = models.DateTimeField(default=clock.now)
    doomed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="blob_content")]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(verified_at=None), name="blob_unverified"),
            models.Index(fields=["tenant"], include=["size"], name="blob_usage"),
        ]

    def __str__(self) -> str:
        return self.sha256


class Upload(TenantOwned):
    """Content on its way in: room is reserved for it, and what has come is kept until `expires_at`.

    Attributes:
        sha256: what it must turn out to be; empty where its source knows no hash (an import from S3).
        multipart_id: the store's name of a transfer in parts; empty for content that comes in one piece.
        part_bytes: of every part but the last.
        created_by: public id of who began it.
        doomed_at: it is being removed.
    """

    ID_PREFIX = "upl"

    sha256 = models.CharField(max_length=64, blank=True)
    size = models.BigIntegerField()
    multipart_id = models.TextField(blank=True)
    part_bytes = models.BigIntegerField(default=0)
    created_by = models.TextField()
    expires_at = models.DateTimeField(db_index=True)
    doomed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "sha256"], condition=~Q(sha256=""), name="upload_content")
        ]

    def __str__(self) -> str:
        return self.sha256 or self.public_id

    @property
    def multipart(self) -> Multipart:
        """As the store takes it."""
        return Multipart(
            tenant_id=self.tenant_id,
            id=self.multipart_id,
            sha256=self.sha256,
            size=self.size,
            part_bytes=self.part_bytes,
        )


class WeightHeader(TenantOwned):
    """The tensors of a safetensors file, by content: as many revisions as hold the file share it.

    Attributes:
        tensors: [[name, dtype, shape, begin, end], …] as zlib-compressed JSON (registry.tensors).
        count: how many tensors; `bytes`: what they take together.
    """

    ID_PREFIX = "whd"

    sha256 = models.CharField(max_length=64)
    tensors = models.BinaryField()
    count = models.PositiveIntegerField()
    bytes = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="weight_header_content")]

    def __str__(self) -> str:
        return self.sha256


class Revision(TenantOwned):
    """One commit of a repo.

    Attributes:
        commit_id: 40 hex characters, as Git's are.
        author: label of the actor, for people.
        digest: SHA-256 hex over its files (registry.digests): what is inspected is what is served.
        inspection: facts about the model (inspection.facts.describe); `missing`: what it lacks to be deployed;
            `problems`: why a revision that was taken at first is refused.
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
        indexes = [  # lists of models, newest first and last changed first: both ids grow with time
            models.Index(fields=["tenant", "repo"], condition=Q(kind="branch", name="main"), name="ref_main_by_repo"),
            models.Index(
                fields=["tenant", "revision"], condition=Q(kind="branch", name="main"), name="ref_main_by_revision"
            ),
        ]

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


class ModelImport(TenantOwned):
    """A model that a worker brings in from elsewhere. Desired and observed state in one row, worked on under a lock.

    Attributes:
        ref: the branch that will hold what the source holds.
        source: hub: {url, repo, revision}; s3: {endpoint_url, region, bucket, prefix}. No secrets.
        credentials: JSON, encrypted: {token} or {access_key_id, secret_access_key, session_token}. Emptied at the end.
        include, exclude: patterns of paths (fnmatch), as Hub clients have them.
        remove_remote_code: whether what would run Python from the repo is taken out on the way (sources.remote_code).
        pinned: what the source's revision meant when the import began: a commit; of S3, a hash over what it listed.
        message: for people: why it failed or waits.
        attempts: tries in a row that brought nothing.
        lock_token, lock_expires_at: who works on it; its progress is written only under that token.
        revision: what came of it.
    """

    ID_PREFIX = "imp"

    repo = models.ForeignKey(ModelRepo, on_delete=models.CASCADE, related_name="imports")
    ref = models.CharField(max_length=200)
    kind = models.TextField(choices=[(kind.value, kind.value) for kind in ImportKind])
    source = models.JSONField()
    credentials = EncryptedTextField(blank=True)
    include = models.JSONField(default=list)
    exclude = models.JSONField(default=list)
    remove_remote_code = models.BooleanField(default=False)
    requested_by = models.TextField()
    requested_by_label = models.TextField()

    status = models.TextField(
        choices=[(status.value, status.value) for status in ImportStatus], default=ImportStatus.QUEUED.value
    )
    pinned = models.TextField(blank=True)
    message = models.TextField(blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=clock.now)
    cancel_requested_at = models.DateTimeField(null=True)
    lock_token = models.UUIDField(null=True)
    lock_expires_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    revision = models.ForeignKey(Revision, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(status__in=["queued", "running"]), name="model_import_due"
            )
        ]

    def __str__(self) -> str:
        return self.public_id


class ImportFile(TenantOwned):
    """One file of an import, as its source lists it.

    Attributes:
        sha256: as the source says; empty where it does not, until the file is here.
        git_oid: Git's id of a small file, which is then checked by it; empty where the source has none.
        etag: of the source's object, so that a change in the middle is noticed.
        received: bytes that are here.
    """

    ID_PREFIX = "imf"

    model_import = models.ForeignKey(ModelImport, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=1024)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True)
    git_oid = models.CharField(max_length=40, blank=True)
    etag = models.TextField(blank=True)
    upload = models.ForeignKey(Upload, on_delete=models.SET_NULL, null=True, related_name="+")
    received = models.BigIntegerField(default=0)
    status = models.TextField(
        choices=[(status.value, status.value) for status in ImportFileStatus], default=ImportFileStatus.PENDING.value
    )
    note = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model_import", "path"], name="import_file_path")]

    def __str__(self) -> str:
        return self.path
