from django.db import migrations

# One sequence for all publications: see freehold.wire.publish for why a version is drawn before the row is read.
class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL(
            "CREATE SEQUENCE freehold_wire_version",
            "DROP SEQUENCE freehold_wire_version",
        ),
    ]
