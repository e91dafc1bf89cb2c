"""${message}.

A draft: read every line, make it right for both dialects, and stay in one transaction (the lock
that keeps other processes out ends with it). Nothing is imported from spoolway: a revision stays
what it is when the tables go on.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
