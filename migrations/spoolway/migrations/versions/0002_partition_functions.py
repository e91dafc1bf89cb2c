"""Partitions are made and dropped by functions of the tables' owner.

A partitioned table can be changed by its owner alone. With these functions (SECURITY DEFINER) the
worker's role needs no more than EXECUTE: see docs/postgresql.md. SQLite has no partitions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Whoever calls must not choose what the owner's rights are used on: the tables are named here, with
# the schema of the migration, and the range follows from the day. Nothing but pg_catalog is searched:
# where others may create functions in that schema (`public`, of databases made before PostgreSQL 15),
# their to_char(date, text) would fit better than PostgreSQL's, and run with the owner's rights.
# The advisory lock is held until the caller's transaction ends: two that need a day take turns.
MAKE = """
CREATE FUNCTION spoolway_make_partition(kind text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home constant text := {schema};
    part constant text := kind || to_char(day, '"_p"YYYYMMDD');
    ms constant bigint := (day - date '1970-01-01') * 86400000::bigint;
BEGIN
    IF kind NOT IN ('request_logs', 'error_logs') THEN
        RAISE undefined_table USING MESSAGE = 'no table of spoolway: ' || kind;
    END IF;
    PERFORM pg_advisory_xact_lock(x'5F53504F4F4C5001'::bigint);
    IF EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = to_regclass(format('%I.%I', home, part))
        AND inhparent = to_regclass(format('%I.%I', home, kind)) AND NOT inhdetachpending
    ) THEN
        RETURN false;
    END IF;
    -- In two steps, because PARTITION OF locks out readers too: it would wait for the longest of
    -- them, and everybody else behind it. ATTACH waits for writers alone, and gives it the indexes.
    EXECUTE format(
        'CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
        'INCLUDING STORAGE INCLUDING COMPRESSION)', home, part, kind
    );
    EXECUTE format(
        'ALTER TABLE %1$I.%2$I ATTACH PARTITION %1$I.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
        home, kind, part,
        rpad(lpad(to_hex(ms), 12, '0'), 32, '0')::uuid,
        rpad(lpad(to_hex(ms + 86400000), 12, '0'), 32, '0')::uuid
    );
    RETURN true;
END
$$
"""

# Rows of error_logs that still point into the partition make DETACH fail (23503): nothing is lost.
DROP = """
CREATE FUNCTION spoolway_drop_partition(kind text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home constant text := {schema};
    part constant text := kind || to_char(day, '"_p"YYYYMMDD');
BEGIN
    IF kind NOT IN ('request_logs', 'error_logs') THEN
        RAISE undefined_table USING MESSAGE = 'no table of spoolway: ' || kind;
    END IF;
    PERFORM pg_advisory_xact_lock(x'5F53504F4F4C5001'::bigint);
    IF NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = to_regclass(format('%I.%I', home, part))
        AND inhparent = to_regclass(format('%I.%I', home, kind)) AND NOT inhdetachpending
    ) THEN
        RETURN false;
    END IF;
    -- Both at once and in the writers' order: each of the two needs locks on the other table.
    EXECUTE format(
        'LOCK TABLE ONLY %1$I.request_logs, ONLY %1$I.error_logs IN ACCESS EXCLUSIVE MODE', home
    );
    IF kind = 'request_logs' THEN
        EXECUTE format('ALTER TABLE %1$I.%2$I DETACH PARTITION %1$I.%3$I', home, kind, part);
    END IF;
    EXECUTE format('DROP TABLE %I.%I', home, part);
    RETURN true;
END
$$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    schema = connection.scalar(sa.text("SELECT quote_literal(current_schema())"))
    for statement in (MAKE, DROP):
        connection.exec_driver_sql(statement.replace("{schema}", schema))
    for name in ("make", "drop"):
        connection.exec_driver_sql(
            f"REVOKE ALL ON FUNCTION spoolway_{name}_partition(text, date) FROM PUBLIC"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION IF EXISTS spoolway_make_partition(text, date)")
        op.execute("DROP FUNCTION IF EXISTS spoolway_drop_partition(text, date)")
