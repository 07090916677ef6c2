from django.db import migrations

from freehold.db import rls

# Both tables only grow, so a running total of them never has to be made anew. Locked while what is there is added up: a
# posting that comes meanwhile waits, readers do not.
TOTAL = """
SET LOCAL lock_timeout = '10s';
LOCK TABLE billing_ledgerentry, billing_creditentry IN SHARE ROW EXCLUSIVE MODE;

CREATE FUNCTION billing_posted_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_postedbalance (tenant_id, nanos)
    SELECT tenant_id, TG_ARGV[0]::int * sum(amount_nanos) FROM added GROUP BY tenant_id ORDER BY tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET nanos = billing_postedbalance.nanos + excluded.nanos;
    RETURN NULL;
END
$$;
CREATE TRIGGER billing_ledgerentry_total AFTER INSERT ON billing_ledgerentry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_posted_balance('-1');
CREATE TRIGGER billing_creditentry_total AFTER INSERT ON billing_creditentry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_posted_balance('1');

CREATE TRIGGER billing_creditentry_append_only BEFORE UPDATE OR DELETE ON billing_creditentry
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();

SELECT set_config('freehold.scope', 'system', true);
INSERT INTO billing_postedbalance (tenant_id, nanos)
SELECT tenant_id, sum(nanos) FROM (
    SELECT tenant_id, -amount_nanos FROM billing_ledgerentry
    UNION ALL SELECT tenant_id, amount_nanos FROM billing_creditentry
) AS posted (tenant_id, nanos) GROUP BY tenant_id;
SELECT set_config('freehold.scope', '', true);
"""
UNDO = """
DROP TRIGGER billing_creditentry_append_only ON billing_creditentry;
DROP TRIGGER billing_creditentry_total ON billing_creditentry;
DROP TRIGGER billing_ledgerentry_total ON billing_ledgerentry;
DROP FUNCTION billing_posted_balance();
TRUNCATE billing_postedbalance;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_accounts")]

    operations = [
        rls.enable("billing_account"),
        rls.enable("billing_creditentry"),
        rls.enable("billing_postedbalance"),
        migrations.RunSQL(TOTAL, UNDO),
    ]
