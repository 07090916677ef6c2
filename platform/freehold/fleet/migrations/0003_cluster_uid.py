from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0002_kubernetes")]

    operations = [
        migrations.AddField(
            model_name="cluster",
            name="uid",
            field=models.TextField(blank=True, db_default="", default="", editable=False),
        ),
    ]
