import django.db.models.deletion
import freehold.common.ids
from django.db import migrations, models

from freehold.db import rls


class Migration(migrations.Migration):
    dependencies = [("serving", "0002_catalog"), ("tenancy", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="EndpointEvent",
            fields=[
                ("id", models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("type", models.TextField()),
                ("reason", models.TextField()),
                ("message", models.TextField()),
                ("count", models.PositiveIntegerField(default=1)),
                ("at", models.DateTimeField()),
                ("generation", models.PositiveIntegerField()),
                ("endpoint", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="events", to="serving.endpoint")),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenancy.tenant")),
            ],
        ),
        migrations.AddIndex(
            model_name="endpointevent",
            index=models.Index(fields=["endpoint", "-at"], name="endpoint_event_newest"),
        ),
        migrations.AddIndex(
            model_name="endpointevent",
            index=models.Index(fields=["at"], name="endpoint_event_age"),
        ),
        rls.enable("serving_endpointevent"),
    ]
