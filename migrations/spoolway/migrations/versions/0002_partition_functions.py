"""Partitions are made and dropped by functions of the tables' owner.

A partitioned table can be changed by its owner alone. With these functions (SECURITY DEFINER) the
worker's role needs no more than EXECUTE: see docs/postgresql.md. SQLite has no partitions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Whoever calls must not choose what the owner's rights are used on: the tables are named here, the
# range follows from the day, and the search_path is that of the migration, not of the caller.
# The advisory lock is held until the caller's transaction ends: two that need a day take turns.
MAKE = """
CREATE FUNCTION spoolway_make_partition(kind text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    part constant text := kind || to_char(day, '"_p"YYYYMMDD');
    ms constant bigint := (day - date '1970-01-01') * 86400000::bigint;
BEGIN
    IF kind NOT IN ('request_logs', 'error_logs') THEN
        RAISE undefined_table USING MESSAGE = 'no table of spoolway: ' || kind;
    END IF;
    PERFORM pg_advisory_xact_lock(x'5F53504F4F4C5001'::bigint);
    IF EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = to_regclass(part)
        AND inhparent = to_regclass(kind) AND NOT inhdetachpending
    ) THEN
        RETURN false;
    END IF;
    -- In two steps, because PARTITION OF locks out readers too: it would wait for the longest of
    -- them, and everybody else behind it. ATTACH waits for writers alone, and gives it the indexes.
    EXECUTE format(
        'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
        'INCLUDING STORAGE INCLUDING COMPRESSION)', part, kind
    );
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', kind, part,
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
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    part constant text := kind || to_char(day, '"_p"YYYYMMDD');
BEGIN
    IF kind NOT IN ('request_logs', 'error_logs') THEN
        RAISE undefined_table USING MESSAGE = 'no table of spoolway: ' || kind;
    END IF;
    PERFORM pg_advisory_xact_lock(x'5F53504F4F4C5001'::bigint);
    IF NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = to_regclass(part)
        AND inhparent = to_regclass(kind) AND NOT inhdetachpending
    ) THEN
        RETURN false;
    END IF;
    -- Both at once and in the writers' order: each of the two needs locks on the other table.
    LOCK TABLE ONLY request_logs, ONLY error_logs IN ACCESS EXCLUSIVE MODE;
    IF kind = 'request_logs' THEN
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', kind, part);
    END IF;
    EXECUTE format('DROP TABLE %I', part);
    RETURN true;
END
$$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
    for statement in (MAKE, DROP):
        connection.exec_driver_sql(statement.replace("{schema}", schema))
    for name in ("make", "drop"):
        connection.exec_driver_sql(
            f"REVOKE ALL ON FUNCTION spoolway_{name}_partition(text, date) FROM PUBLIC"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION spoolway_make_partition(text, date)")
        op.execute("DROP FUNCTION spoolway_drop_partition(text, date)")
