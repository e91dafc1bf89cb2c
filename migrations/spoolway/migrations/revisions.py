"""The revisions that this version of Spoolway brings along. No database is asked."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory

from spoolway.migrations.errors import UnknownRevision

VERSION_TABLE: Final = "spoolway_alembic_version"
"""Not Alembic's default: the proxy that shares this database may have migrations of its own."""
BASE: Final = "base"
"""Before the first revision: no tables. As a value it is None."""
HEAD: Final = "head"

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the tables' history."""

    revision: str
    down_revision: str | None
    message: str


def config() -> Config:
    """Return Alembic's configuration without an alembic.ini: the folder is where this file is."""
    settings = Config(cmd_opts=Namespace(quiet=True))
    # The configuration is a ConfigParser's, which would replace %(name)s in a path.
    settings.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    settings.set_main_option("path_separator", "os")
    return settings


def history() -> list[Revision]:
    """Return every revision, newest first."""
    return [
        Revision(script.revision, _only(script.down_revision), script.doc.rstrip("."))
        for script in ScriptDirectory.from_config(config()).walk_revisions()
    ]


def newest() -> str:
    """Return the revision whose tables are those of `spoolway.schema.tables`."""
    return history()[0].revision


def resolve(name: str) -> str | None:
    """Return the revision of a name: "head", "base" (None), or a revision. Raises UnknownRevision."""
    known = [step.revision for step in history()]
    if name == BASE:
        return None
    if name == HEAD:
        return known[0]
    if name not in known:
        raise UnknownRevision(name)
    return name


def position(revision: str | None) -> int:
    """Return how many steps a known revision is from base."""
    oldest_first: list[str | None] = [None, *(step.revision for step in reversed(history()))]
    return oldest_first.index(revision)


def _only(down_revision: object) -> str | None:
    if down_revision is None or isinstance(down_revision, str):
        return down_revision
    raise ValueError(f"revisions form one line, without branches: {down_revision!r}")
