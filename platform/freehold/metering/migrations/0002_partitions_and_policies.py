from django.db import migrations

from freehold.db import rls

# Makes the partition of one UTC month; says whether there was anything to do. The application's role may call it and could
# not do this itself: hence SECURITY DEFINER, with a fixed search_path, months near the present only, and nothing in it that a
# caller can name.
#
# The partition is built apart and attached, which locks out neither readers nor writers of the other months. Rows of the
# month that already went to the default partition move over first, under a lock, or attaching would fail. Row-level security
# is set on the partition itself: whoever names it instead of the table meets the same policy.
PARTITION_ENSURE = """
CREATE FUNCTION freehold_usage_partition_ensure(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    first date := date_trunc('month', month::timestamp)::date;
    after date := (first + interval '1 month')::date;
    name text := 'metering_usageevent_' || to_char(first, 'YYYY_MM');
    since timestamptz := first::timestamp AT TIME ZONE 'UTC';
    until timestamptz := after::timestamp AT TIME ZONE 'UTC';
    scope text := coalesce(current_setting('freehold.scope', true), '');
BEGIN
    IF first < date '2026-01-01' OR first > (now() + interval '13 months')::date THEN
        RAISE EXCEPTION 'no usage partition for %: from 2026 to a year ahead', first;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('freehold_usage_partition_ensure', 0));
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE public.metering_usageevent_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.metering_usageevent INCLUDING ALL)', name);
    PERFORM set_config('freehold.scope', 'system', true);
    EXECUTE format(
        'WITH moved AS (DELETE FROM public.metering_usageevent_default'
        ' WHERE occurred_at >= $1 AND occurred_at < $2 RETURNING *) INSERT INTO public.%I SELECT * FROM moved',
        name
    ) USING since, until;
    PERFORM set_config('freehold.scope', scope, true);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    EXECUTE format(
        'CREATE POLICY %I ON public.%I USING ('
        'tenant_id = nullif(current_setting(''freehold.tenant'', true), '''')::uuid'
        ' OR current_setting(''freehold.scope'', true) = ''system'')',
        name || '_tenant', name
    );
    EXECUTE format(
        'ALTER TABLE public.metering_usageevent ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        name, since, until
    );
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION freehold_usage_partition_ensure(date) FROM PUBLIC;
SELECT freehold_usage_partition_ensure((date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date)
FROM generate_series(0, 2) AS n;
"""

# Whose a reject is may be what could not be read: no tenant sees any.
REJECT_POLICY = """
ALTER TABLE metering_usagereject ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering_usagereject FORCE ROW LEVEL SECURITY;
CREATE POLICY metering_usagereject_system ON metering_usagereject
    USING (current_setting('freehold.scope', true) = 'system');
"""

APPEND_ONLY = """
CREATE FUNCTION metering_replicainterval_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
        AND to_jsonb(NEW) - 'ended_at' = to_jsonb(OLD) - 'ended_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'replica intervals are append-only: ended_at is set once' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER metering_replicainterval_guard BEFORE UPDATE OR DELETE ON metering_replicainterval
    FOR EACH ROW EXECUTE FUNCTION metering_replicainterval_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0001_initial")]

    operations = [
        rls.enable("metering_usageevent"),
        rls.enable("metering_usageevent_default"),
        rls.enable("metering_replicainterval"),
        rls.enable("metering_duehour"),
        migrations.RunSQL(
            REJECT_POLICY,
            "DROP POLICY metering_usagereject_system ON metering_usagereject;"
            "ALTER TABLE metering_usagereject NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY",
        ),
        migrations.RunSQL(PARTITION_ENSURE, "DROP FUNCTION freehold_usage_partition_ensure(date)"),
        migrations.RunSQL(
            APPEND_ONLY,
            "DROP TRIGGER metering_replicainterval_guard ON metering_replicainterval;"
            "DROP FUNCTION metering_replicainterval_guard()",
        ),
    ]
