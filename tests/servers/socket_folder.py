"""A folder whose unix sockets have a path that the kernel accepts."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path

# sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero; 30 are for the name.
_LONGEST = 103 - 30


def socket_folder(owner: object, wanted: Path) -> Path:
    """`wanted`, or where its path is too long a short one that goes when `owner` goes."""
    if len(os.fsencode(wanted.absolute())) <= _LONGEST:
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted.absolute()
    short = tempfile.mkdtemp(prefix="spoolway-", dir="/tmp")
    weakref.finalize(owner, shutil.rmtree, short, ignore_errors=True)
    return Path(short)
