"""Who a server runs as: PostgreSQL refuses to be root."""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """An unprivileged user; its ids are handed to subprocess, which switches before exec."""

    name: str
    uid: int
    gid: int

    def unreachable(self, path: Path) -> Path | None:
        """The first folder on the way to `path` that this user may not enter, or None."""
        for folder in [*reversed(path.resolve().parents), path]:
            if folder.is_dir() and not self._may_enter(folder.stat()):
                return folder
        return None

    def _may_enter(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def own(self, path: Path) -> None:
        """Hand a file or folder (not what is in it) to this user."""
        shutil.chown(path, self.uid, self.gid)


@cache
def unprivileged() -> Account | None:
    """The account that PostgreSQL must run as, or None when we can run it as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    return Account("65534", 65534, 65534)
