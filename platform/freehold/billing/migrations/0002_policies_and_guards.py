from django.db import migrations

from freehold.db import rls

TABLES = ("billing_pricebook", "billing_price", "billing_ledgerentry")

APPEND_ONLY = """
CREATE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
""" + "".join(
    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
    " FOR EACH ROW EXECUTE FUNCTION billing_append_only();"
    for table in TABLES
)
UNDO = "".join(f"DROP TRIGGER {table}_append_only ON {table};" for table in TABLES) + "DROP FUNCTION billing_append_only()"


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [
        rls.enable("billing_ledgerentry"),
        migrations.RunSQL(APPEND_ONLY, UNDO),
    ]
