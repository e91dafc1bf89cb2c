"""Where retention remembers up to when bodies have expired, so that it reads no row twice.

On PostgreSQL the comment of each partition, which its owner alone may set: by a function that the
worker's role may EXECUTE, as those of 0002. In SQLite a table of one row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Whoever calls chooses a day and a time, and nothing else of what is executed. Without a time the
# partition has no comment any more: what was copied into it may have bodies.
NOTE = """
CREATE FUNCTION spoolway_note_expired(day date, seen timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'COMMENT ON TABLE %I.%I IS %L', {schema}, 'request_logs' || to_char(day, '"_p"YYYYMMDD'),
        'bodies expired: ' || to_char(seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    );
END
$$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        op.create_table(
            "spoolway_expired",
            sa.Column("before_id", sa.Text(), nullable=False),
            sa.Column("seen", sa.Text(), nullable=False),
        )
        return
    schema = connection.scalar(sa.text("SELECT quote_literal(current_schema())"))
    connection.exec_driver_sql(NOTE.replace("{schema}", schema))
    connection.exec_driver_sql(
        "REVOKE ALL ON FUNCTION spoolway_note_expired(date, timestamptz) FROM PUBLIC"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("spoolway_expired")
    else:
        op.execute("DROP FUNCTION IF EXISTS spoolway_note_expired(date, timestamptz)")
