"""/imports: bring a model in from another hub or from S3, watch it come, cancel it, retry it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import idempotency, pagination
from freehold.api.parsing import RequestBody, validated
from freehold.api.schema import answers, page_of
from freehold.api.views import ApiView
from freehold.common.errors import InvalidInput
from freehold.db.rls import tenant_scope
from freehold.registry import imports
from freehold.registry.choices import ImportKind
from freehold.registry.models import ImportFile, ModelImport
from freehold.tenancy.permissions import Operation


class SourceIn(RequestBody):
    kind = serializers.ChoiceField(choices=[(kind.value, kind.value) for kind in ImportKind])
    url = serializers.CharField(
        required=False, max_length=1000, help_text="hub: its origin, such as https://hub.example"
    )
    repo = serializers.CharField(required=False, max_length=300, help_text="hub: organization/name there")
    revision = serializers.CharField(required=False, max_length=250, help_text="hub: branch, tag or commit; main")
    endpoint_url = serializers.CharField(required=False, max_length=1000, help_text="s3: unless it is Amazon's own")
    region = serializers.CharField(required=False, max_length=100, help_text="s3")
    bucket = serializers.CharField(required=False, max_length=255, help_text="s3")
    prefix = serializers.CharField(required=False, max_length=1000, help_text="s3: the folder of the model")


class CredentialsIn(RequestBody):
    token = serializers.CharField(required=False, max_length=4000, help_text="hub")
    access_key_id = serializers.CharField(required=False, max_length=1000, help_text="s3")
    secret_access_key = serializers.CharField(required=False, max_length=1000, help_text="s3")
    session_token = serializers.CharField(required=False, max_length=8000, help_text="s3")


class _Patterns(serializers.ListField):
    child = serializers.CharField(max_length=300)


class ImportIn(RequestBody):
    model = serializers.CharField(max_length=96, help_text="its name here, without the tenant's slug; made if need be")
    source = SourceIn()  # type: ignore[assignment] # DRF takes declared fields off the class
    credentials = CredentialsIn(required=False, help_text="kept encrypted until the import has succeeded; never shown")
    branch = serializers.CharField(default="main", max_length=200)
    include = _Patterns(
        required=False, max_length=imports.PATTERNS, help_text="patterns of paths, such as *.safetensors"
    )
    exclude = _Patterns(required=False, max_length=imports.PATTERNS)
    remove_remote_code = serializers.BooleanField(
        default=False,
        help_text="take `auto_map` out of configurations and leave Python files behind: vLLM then serves the model "
        "with code of its own, if it knows the architecture",
    )


class RetryIn(RequestBody):
    credentials = CredentialsIn(required=False, help_text="in place of those given before")


class ProgressOut(serializers.Serializer[Any]):
    files_total = serializers.IntegerField()
    files_done = serializers.IntegerField()
    files_skipped = serializers.IntegerField()
    bytes_total = serializers.IntegerField()
    bytes_done = serializers.IntegerField()


class ImportOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="public_id")
    model = serializers.CharField(source="repo.full_name")
    model_id = serializers.CharField(source="repo.public_id")
    branch = serializers.CharField(source="ref")
    kind = serializers.CharField()
    source = serializers.DictField()  # type: ignore[assignment] # DRF takes declared fields off the class
    pinned = serializers.CharField(
        help_text="the commit that the source's revision meant; of S3, a hash over paths, sizes and ETags"
    )
    status = serializers.CharField(help_text="queued, running, succeeded, failed, cancelled")
    message = serializers.CharField(help_text="why it failed, or what it waits for")
    progress = serializers.SerializerMethodField()
    revision = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_progress(self, found: ModelImport) -> dict[str, int]:
        """Within the tenant's scope where there are many."""
        return dict(ProgressOut(self.context["progress"][found.pk]).data)

    def get_revision(self, found: ModelImport) -> str | None:
        """The commit id of what came of it."""
        return None if found.revision is None else found.revision.commit_id


class ImportFileOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    size = serializers.IntegerField()
    sha256 = serializers.CharField(help_text="empty until it is known")
    received = serializers.IntegerField(help_text="bytes that are here")
    status = serializers.CharField(help_text="pending, done, skipped")
    note = serializers.CharField(help_text="why it is skipped")

    class Meta:
        model = ImportFile


class ImportDetailOut(ImportOut):
    files = ImportFileOut(many=True)


class ImportsView(ApiView):
    """The imports of a tenant."""

    @extend_schema(
        operation_id="import_list",
        parameters=pagination.PARAMETERS,
        responses=answers({200: page_of("ImportPage", ImportOut)}),
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        tenant = self.caller(request, Operation.MODEL_READ).tenant
        with tenant_scope(tenant.pk):
            return Response(pagination.page(request, imports.import_list(tenant_id=tenant.pk), _shown))

    @extend_schema(
        operation_id="import_create",
        parameters=[idempotency.PARAMETER],
        request=ImportIn,
        responses=answers({201: ImportOut}, 409, 422),
    )
    def post(self, request: Request) -> Response:
        """Begins an import. It goes on by itself; look at it for its progress."""
        caller = self.caller(request, Operation.MODEL_WRITE)
        wanted = validated(ImportIn, request.data)
        source = {name: value for name, value in wanted["source"].items() if name != "kind"}

        def create() -> Response:
            created = imports.import_create(
                actor=caller.actor,
                tenant_id=caller.tenant.pk,
                name=wanted["model"],
                kind=ImportKind(wanted["source"]["kind"]),
                source=source,
                credentials=wanted.get("credentials"),
                ref=wanted["branch"],
                include=wanted.get("include", []),
                exclude=wanted.get("exclude", []),
                remove_remote_code=wanted["remove_remote_code"],
            )
            location = {"Location": f"/api/v1/imports/{created.public_id}"}
            return Response(_one(created), status=status.HTTP_201_CREATED, headers=location)

        return idempotency.once(request, create)


class ImportView(ApiView):
    """One import."""

    @extend_schema(operation_id="import_get", responses=answers({200: ImportDetailOut}, 404))
    def get(self, request: Request, import_id: str) -> Response:
        """With how far each file is."""
        tenant = self.caller(request, Operation.MODEL_READ).tenant
        found = imports.import_get(tenant_id=tenant.pk, import_id=ModelImport.parse_id(import_id))
        files = imports.import_files(tenant_id=tenant.pk, import_id=found.pk)
        return Response({**_one(found), "files": ImportFileOut(files, many=True).data})


class ImportActionView(ApiView):
    """What can be done with an import."""

    @extend_schema(
        operation_id="import_act",
        parameters=[idempotency.PARAMETER],
        request=RetryIn,
        responses=answers({200: ImportOut}, 404, 409),
    )
    def post(self, request: Request, import_id: str, action: str) -> Response:
        """`cancel` ends it; `retry` queues one that failed or was cancelled, and it goes on with what is missing."""
        caller = self.caller(request, Operation.MODEL_WRITE)
        key = ModelImport.parse_id(import_id)
        credentials = validated(RetryIn, request.data).get("credentials")

        def act() -> Response:
            if action == "cancel":
                found = imports.import_cancel(actor=caller.actor, tenant_id=caller.tenant.pk, import_id=key)
            elif action == "retry":
                found = imports.import_retry(
                    actor=caller.actor, tenant_id=caller.tenant.pk, import_id=key, credentials=credentials
                )
            else:
                raise InvalidInput(f"An import knows cancel and retry, not {action[:40]!r}.")
            return Response(_one(found))

        return idempotency.once(request, act)


def _one(found: ModelImport) -> dict[str, Any]:
    with tenant_scope(found.tenant_id):
        return dict(_shown([found])[0])


def _shown(rows: list[ModelImport]) -> list[Any]:
    return list(ImportOut(rows, many=True, context={"progress": imports.import_progress(rows)}).data)
