"""Tables of metering. Written by workers alone (services); read by billing, the API and the console (selectors)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from freehold.db.models import BaseModel, TenantOwned
from freehold.metering.choices import BillingMode, ReplicaState


class UsageEvent(models.Model):
    """One answered request, exactly once.

    PARTITIONED BY RANGE (occurred_at), a partition a UTC month. The primary key in PostgreSQL is (event_id,
    occurred_at): a partitioned table's keys must hold the partition key, and both are fixed when the request is opened.
    Django is told of event_id alone, which the admin can work with. `endpoint_id` and `api_key_id` are no foreign keys:
    usage outlives both.
    """

    event_id = models.UUIDField(primary_key=True, editable=False)
    tenant = models.ForeignKey("tenancy.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(auto_now_add=True)
    api_key_id = models.TextField()
    endpoint_id = models.UUIDField()
    generation = models.BigIntegerField()
    billing_mode = models.TextField()
    model = models.TextField()
    route = models.TextField()
    region = models.TextField()
    weight_digest = models.TextField()
    engine_digest = models.TextField()
    outcome = models.TextField()
    replica = models.TextField(blank=True)
    adapter = models.TextField(blank=True)
    prompt_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    choice_tokens = ArrayField(models.BigIntegerField(), null=True, blank=True)
    estimated = models.BooleanField()
    first_token_ms = models.BigIntegerField(null=True, blank=True)
    duration_ms = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "occurred_at"], name="usage_event_tenant"),
            models.Index(fields=["endpoint_id", "occurred_at"], name="usage_event_endpoint"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    prompt_tokens__gte=0,
                    cached_tokens__gte=0,
                    completion_tokens__gte=0,
                    reasoning_tokens__gte=0,
                    duration_ms__gte=0,
                ),
                name="usage_event_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(cached_tokens__lte=F("prompt_tokens")), name="usage_event_cached_in_prompt"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.event_id}"


class UsageHour(models.Model):
    """Sums of the UsageEvents of one (tenant, endpoint, model, billing mode) in one UTC hour.

    A trigger on UsageEvent keeps them, in the transaction that inserts (migration 0004): always equal to the events,
    and read instead of them (selectors.usage_sums). Numeric, because a sum may be larger than any event's number.
    """

    pk = models.CompositePrimaryKey("tenant_id", "hour", "endpoint_id", "model", "billing_mode")
    tenant = models.ForeignKey("tenancy.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    hour = models.DateTimeField()
    endpoint_id = models.UUIDField()
    model = models.TextField()
    billing_mode = models.TextField()
    requests = models.DecimalField(max_digits=38, decimal_places=0)
    prompt_tokens = models.DecimalField(max_digits=38, decimal_places=0)
    cached_tokens = models.DecimalField(max_digits=38, decimal_places=0)
    completion_tokens = models.DecimalField(max_digits=38, decimal_places=0)

    def __str__(self) -> str:
        return f"{self.model} {self.hour:%Y-%m-%d %H}h"


class UnsettledTenant(models.Model):
    """A tenant with events that are committed and not yet taken off its published balance.

    Set in the transaction that commits them; no watermark is told to gateways before they are. `stamp` is new each
    time, so that whoever settles forgets no later event.
    """

    tenant = models.OneToOneField(
        "tenancy.Tenant", on_delete=models.PROTECT, primary_key=True, related_name="+", editable=False
    )
    stamp = models.UUIDField()

    def __str__(self) -> str:
        return str(self.tenant_id)


class GatewayWatermark(models.Model):
    """The highest sequence of a gateway's journal that is committed here, with everything below it."""

    gateway = models.TextField()
    epoch = models.TextField()
    sequence = models.BigIntegerField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway", "epoch"], name="gateway_watermark_once")]

    def __str__(self) -> str:
        return f"{self.gateway}/{self.epoch} {self.sequence}"


class UsageReject(BaseModel):
    """What arrived and could not become a UsageEvent: kept as it came, with the reason, so that nothing is lost.

    `digest` is SHA-256 (hex) of `raw`; the same bytes are kept once. Visible in system scope only: whose it is may be
    what could not be read. `sequence` is null where a whole stream entry was unreadable.
    """

    gateway = models.TextField(blank=True)
    epoch = models.TextField(blank=True)
    sequence = models.BigIntegerField(null=True, blank=True)
    reason = models.TextField()
    raw = models.BinaryField()
    digest = models.CharField(max_length=64, unique=True)

    def __str__(self) -> str:
        return f"{self.gateway}/{self.epoch} {self.sequence}: {self.reason}"


class ReplicaInterval(TenantOwned):
    """A replica in one state from `started_at` until `ended_at` (null: still). A trigger lets `ended_at` be set once
    and refuses every other change."""

    endpoint_id = models.UUIDField()
    replica_id = models.TextField()
    generation = models.BigIntegerField()
    billing_mode = models.TextField(choices=[(mode.value, mode.value) for mode in BillingMode])
    flavor = models.TextField()
    accelerators = models.PositiveIntegerField()
    state = models.TextField(choices=[(state.value, state.value) for state in ReplicaState])
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "started_at"], name="replica_interval_tenant")]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint_id", "replica_id"], condition=Q(ended_at=None), name="replica_interval_open_once"
            ),
            models.CheckConstraint(condition=Q(accelerators__gte=1), name="replica_interval_accelerators"),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")), name="replica_interval_forward"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.replica_id} {self.state}"


class DueHour(TenantOwned):
    """A tenant's UTC hour whose usage changed since it was last rated.

    Set in the transaction that changes the usage, taken in the transaction that posts the hour: whoever holds this row
    keeps the other out, so no late event is ever missed.
    """

    hour = models.DateTimeField()
    touched_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["hour"], name="due_hour_hour")]
        constraints = [models.UniqueConstraint(fields=["tenant", "hour"], name="due_hour_once")]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.hour:%Y-%m-%d %H}h"
