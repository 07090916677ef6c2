import django.db.models.deletion
import freehold.common.ids
from django.db import migrations, models


# The primary key holds the partition key, as PostgreSQL demands. The foreign key is checked at once, not at commit: the drain
# must learn in time of a row that cannot be. The default partition takes what no month has: nothing is ever lost.
USAGE_EVENT = """
    CREATE TABLE metering_usageevent (
        event_id uuid NOT NULL,
        tenant_id uuid NOT NULL REFERENCES tenancy_tenant (id),
        occurred_at timestamp with time zone NOT NULL,
        recorded_at timestamp with time zone NOT NULL,
        api_key_id text NOT NULL,
        endpoint_id uuid NOT NULL,
        generation bigint NOT NULL,
        billing_mode text NOT NULL,
        model text NOT NULL,
        route text NOT NULL,
        region text NOT NULL,
        weight_digest text NOT NULL,
        engine_digest text NOT NULL,
        outcome text NOT NULL,
        replica text NOT NULL,
        adapter text NOT NULL,
        prompt_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        completion_tokens bigint NOT NULL,
        reasoning_tokens bigint NOT NULL,
        estimated boolean NOT NULL,
        first_token_ms bigint,
        duration_ms bigint NOT NULL,
        PRIMARY KEY (event_id, occurred_at),
        CONSTRAINT usage_event_not_negative CHECK (
            prompt_tokens >= 0 AND cached_tokens >= 0 AND completion_tokens >= 0 AND reasoning_tokens >= 0
            AND duration_ms >= 0
        ),
        CONSTRAINT usage_event_cached_in_prompt CHECK (cached_tokens <= prompt_tokens)
    ) PARTITION BY RANGE (occurred_at);
    CREATE INDEX usage_event_tenant ON metering_usageevent (tenant_id, occurred_at);
    CREATE INDEX usage_event_endpoint ON metering_usageevent (endpoint_id, occurred_at);
    CREATE TABLE metering_usageevent_default PARTITION OF metering_usageevent DEFAULT;
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('tenancy', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsageReject',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('gateway', models.TextField(blank=True)),
                ('epoch', models.TextField(blank=True)),
                ('sequence', models.BigIntegerField(blank=True, null=True)),
                ('reason', models.TextField()),
                ('raw', models.BinaryField()),
                ('digest', models.CharField(max_length=64, unique=True)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='GatewayWatermark',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('gateway', models.TextField()),
                ('epoch', models.TextField()),
                ('sequence', models.BigIntegerField()),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('gateway', 'epoch'), name='gateway_watermark_once')],
            },
        ),
        migrations.CreateModel(
            name='DueHour',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('hour', models.DateTimeField()),
                ('touched_at', models.DateTimeField(auto_now=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
            ],
            options={
                'indexes': [models.Index(fields=['hour'], name='due_hour_hour')],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'hour'), name='due_hour_once')],
            },
        ),
        migrations.CreateModel(
            name='ReplicaInterval',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('endpoint_id', models.UUIDField()),
                ('replica_id', models.TextField()),
                ('generation', models.BigIntegerField()),
                ('billing_mode', models.TextField(choices=[('tokens', 'tokens'), ('gpu_seconds', 'gpu_seconds')])),
                ('flavor', models.TextField()),
                ('accelerators', models.PositiveIntegerField()),
                ('state', models.TextField(choices=[('fetching', 'fetching'), ('starting', 'starting'), ('ready', 'ready'), ('unhealthy', 'unhealthy'), ('stopping', 'stopping')])),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
            ],
            options={
                'indexes': [models.Index(fields=['tenant', 'started_at'], name='replica_interval_tenant')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('endpoint_id', 'replica_id'), name='replica_interval_open_once'), models.CheckConstraint(condition=models.Q(('accelerators__gte', 1)), name='replica_interval_accelerators'), models.CheckConstraint(condition=models.Q(('ended_at', None), ('ended_at__gte', models.F('started_at')), _connector='OR'), name='replica_interval_forward')],
            },
        ),
        # PostgreSQL's side is partitioned, which Django cannot say; Django's side is what it may know of it.
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(USAGE_EVENT, "DROP TABLE metering_usageevent")],
            state_operations=[
                migrations.CreateModel(
                    name='UsageEvent',
                    fields=[
                        ('event_id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ('occurred_at', models.DateTimeField()),
                        ('recorded_at', models.DateTimeField(auto_now_add=True)),
                        ('api_key_id', models.TextField()),
                        ('endpoint_id', models.UUIDField()),
                        ('generation', models.BigIntegerField()),
                        ('billing_mode', models.TextField()),
                        ('model', models.TextField()),
                        ('route', models.TextField()),
                        ('region', models.TextField()),
                        ('weight_digest', models.TextField()),
                        ('engine_digest', models.TextField()),
                        ('outcome', models.TextField()),
                        ('replica', models.TextField(blank=True)),
                        ('adapter', models.TextField(blank=True)),
                        ('prompt_tokens', models.BigIntegerField()),
                        ('cached_tokens', models.BigIntegerField()),
                        ('completion_tokens', models.BigIntegerField()),
                        ('reasoning_tokens', models.BigIntegerField()),
                        ('estimated', models.BooleanField()),
                        ('first_token_ms', models.BigIntegerField(blank=True, null=True)),
                        ('duration_ms', models.BigIntegerField()),
                        ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
                    ],
                    options={
                        'indexes': [models.Index(fields=['tenant', 'occurred_at'], name='usage_event_tenant'), models.Index(fields=['endpoint_id', 'occurred_at'], name='usage_event_endpoint')],
                        'constraints': [models.CheckConstraint(condition=models.Q(('cached_tokens__gte', 0), ('completion_tokens__gte', 0), ('duration_ms__gte', 0), ('prompt_tokens__gte', 0), ('reasoning_tokens__gte', 0)), name='usage_event_not_negative'), models.CheckConstraint(condition=models.Q(('cached_tokens__lte', models.F('prompt_tokens'))), name='usage_event_cached_in_prompt')],
                    },
                ),
            ],
        ),
    ]
