"""Endpoints that are there already reserve the room that they have."""

from django.db import migrations
from django.db.models import F

from freehold.common import ids

_SCOPE = "SELECT set_config('freehold.scope', %s, true)"
_AT_ONCE = 1000


def _fill(apps, schema_editor):
    connection = schema_editor.connection
    Spec = apps.get_model("serving", "EndpointSpec")
    Reservation = apps.get_model("fleet", "Reservation")
    with connection.cursor() as cursor:
        cursor.execute(_SCOPE, ["system"])
    specs = Spec.objects.using(connection.alias).filter(
        generation=F("endpoint__generation"), endpoint__deleted_at=None
    )
    Reservation.objects.using(connection.alias).bulk_create(
        (
            Reservation(
                cluster_id=spec.endpoint.cluster_id,
                flavor_id=spec.flavor_id,
                holder=ids.encode("ep", spec.endpoint_id),
                replicas=spec.replicas,
            )
            for spec in specs.select_related("endpoint").iterator()
        ),
        batch_size=_AT_ONCE,
        ignore_conflicts=True,
    )
    with connection.cursor() as cursor:
        cursor.execute(_SCOPE, [""])


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0002_kubernetes'),
        ('serving', '0003_endpoint_events'),
    ]

    operations = [migrations.RunPython(_fill, migrations.RunPython.noop)]
