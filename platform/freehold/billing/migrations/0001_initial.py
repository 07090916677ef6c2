import django.db.models.deletion
import freehold.common.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('tenancy', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='PriceBook',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('name', models.TextField()),
                ('currency', models.CharField(max_length=3)),
                ('valid_from', models.DateTimeField()),
                ('version', models.PositiveIntegerField(unique=True)),
            ],
            options={
                'indexes': [models.Index(fields=['valid_from', 'version'], name='price_book_in_force')],
            },
        ),
        migrations.CreateModel(
            name='Price',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('meter', models.TextField(choices=[('prompt_tokens', 'prompt_tokens'), ('cached_prompt_tokens', 'cached_prompt_tokens'), ('completion_tokens', 'completion_tokens'), ('accelerator_seconds', 'accelerator_seconds')])),
                ('model', models.TextField(blank=True, default='')),
                ('flavor', models.TextField(blank=True, default='')),
                ('nanos', models.BigIntegerField()),
                ('book', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='prices', to='billing.pricebook')),
            ],
        ),
        migrations.CreateModel(
            name='LedgerEntry',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('endpoint_id', models.UUIDField()),
                ('meter', models.TextField(choices=[('prompt_tokens', 'prompt_tokens'), ('cached_prompt_tokens', 'cached_prompt_tokens'), ('completion_tokens', 'completion_tokens'), ('accelerator_seconds', 'accelerator_seconds')])),
                ('hour', models.DateTimeField()),
                ('revision', models.PositiveIntegerField()),
                ('quantity', models.BigIntegerField()),
                ('amount_nanos', models.BigIntegerField()),
                ('currency', models.CharField(max_length=3)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
                ('price', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.price')),
            ],
            options={
                'indexes': [models.Index(fields=['tenant', 'hour'], name='ledger_entry_tenant')],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'endpoint_id', 'meter', 'price', 'hour', 'revision'), name='ledger_entry_once')],
            },
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.UniqueConstraint(fields=('book', 'meter', 'model', 'flavor'), name='price_once'),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('nanos__gte', 0)), name='price_not_negative'),
        ),
    ]
