from django.db import migrations

from freehold.db import rls

# A statement's trigger sees what was really inserted: an event that was there already (ON CONFLICT DO NOTHING) counts once.
# It stands on the partitioned table, which inserts go through; moving rows into a partition of their own passes it by.
# Locked while what is there is added up: the drain waits, its entries lie safe in the stream; readers do not wait.
SUMS = """
SET LOCAL lock_timeout = '10s';
LOCK TABLE metering_usageevent IN SHARE ROW EXCLUSIVE MODE;

CREATE FUNCTION metering_usagehour_add() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO metering_usagehour AS sums (
        tenant_id, hour, endpoint_id, model, billing_mode, requests, prompt_tokens, cached_tokens, completion_tokens
    )
    SELECT tenant_id, date_trunc('hour', occurred_at, 'UTC'), endpoint_id, model, billing_mode,
        count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens)
    FROM added GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, hour, endpoint_id, model, billing_mode) DO UPDATE SET
        requests = sums.requests + excluded.requests,
        prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = sums.cached_tokens + excluded.cached_tokens,
        completion_tokens = sums.completion_tokens + excluded.completion_tokens;
    RETURN NULL;
END
$$;
CREATE TRIGGER metering_usageevent_sums AFTER INSERT ON metering_usageevent
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION metering_usagehour_add();

SELECT set_config('freehold.scope', 'system', true);
INSERT INTO metering_usagehour (
    tenant_id, hour, endpoint_id, model, billing_mode, requests, prompt_tokens, cached_tokens, completion_tokens
)
SELECT tenant_id, date_trunc('hour', occurred_at, 'UTC'), endpoint_id, model, billing_mode,
    count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens)
FROM metering_usageevent GROUP BY 1, 2, 3, 4, 5;
SELECT set_config('freehold.scope', '', true);
"""
UNDO = """
DROP TRIGGER metering_usageevent_sums ON metering_usageevent;
DROP FUNCTION metering_usagehour_add();
TRUNCATE metering_usagehour;
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0003_usage_hours")]

    operations = [
        rls.enable("metering_usagehour"),
        rls.enable("metering_unsettledtenant"),
        migrations.RunSQL(SUMS, UNDO),
    ]
