"""What each choice of an answer came to. A nullable column without a default: no row is rewritten."""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("metering", "0004_usage_hour_sums")]

    operations = [
        migrations.AddField(
            "usageevent", "choice_tokens", ArrayField(models.BigIntegerField(), null=True, blank=True)
        ),
    ]
