"""Commands as a container or systemd would run them: nobody's user, no capability, a read-only root.

The kernel does it here, as it does there: a mount namespace and a user namespace. What a container
engine adds, an image and a network, is not here.
"""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from pydantic import AliasChoices

from spoolway.worker.config import Settings
from tests.servers import ValkeyServer, eventually
from tests.workers import push, request_line, waiting

UID: Final = 10001

# $1: the one folder that can be written to; $2: where Python is; $3: the host's name; then the
# command. An empty /tmp comes over the host's, unless one of them is in it: then it is read-only.
_SCRIPT: Final = """
set -eu
mount --make-rprivate /
mount --bind "$1" "$1"
for mounted in / /dev/shm /tmp; do
    if mountpoint --quiet "$mounted"; then mount -o remount,bind,ro "$mounted"; fi
done
case "$1 $2" in /tmp/*|*" /tmp/"*) ;; *) mount -t tmpfs tmpfs /tmp ;; esac
hostname "$3"
shift 3
exec unshare --user --map-user=%d --map-group=%d setpriv --no-new-privs --inh-caps=-all "$@"
"""

# systemd's MemoryDenyWriteExecute: PR_SET_MDWE, which exec does not take away.
_NO_CODE_IN_DATA: Final = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0, "needs Linux 6.3"
os.execvp(sys.argv[1], sys.argv[1:])
"""


def confined(
    command: Sequence[str | Path],
    writable: Path,
    *,
    host: str = "container",
    no_code_in_data: bool = False,
) -> list[str]:
    """Return what runs the command so that it can write to one folder (and an empty /tmp) alone.

    Skips where namespaces cannot be made.
    """
    if reason := _missing():
        pytest.skip(reason)
    guard = [sys.executable, "-c", _NO_CODE_IN_DATA] if no_code_in_data else []
    return [
        *("unshare", "--mount", "--uts", "sh", "-c", _SCRIPT % (UID, UID), "sh"),
        *(str(writable), sys.prefix, host),
        *(str(word) for word in [*guard, *command]),
    ]


@functools.cache
def _missing() -> str | None:
    if sys.platform != "linux" or not shutil.which("unshare") or not shutil.which("setpriv"):
        return "needs Linux with unshare and setpriv"
    probe = [
        "unshare",
        "--mount",
        "--uts",
        "sh",
        "-c",
        "mount --make-rprivate / && unshare -U true",
    ]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        return "needs root, or the right to make namespaces"
    return None


@contextmanager
def drains_and_stops(
    command: Sequence[str | Path],
    folder: Path,
    valkey: ValkeyServer,
    environment: Mapping[str, str],
    *,
    grace: float,
    no_code_in_data: bool = False,
) -> Iterator[None]:
    """Run a worker confined, with this environment and no other; yield when it has drained a stream.

    At the end it stops at SIGTERM within `grace` seconds, with exit code 0.
    """
    log = folder.with_suffix(".log")
    argv = confined(command, folder, no_code_in_data=no_code_in_data)
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            # No HOME, no user's settings; PATH as the image and systemd have it.
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            umask=0o022,
        )
    try:
        lines = [request_line() for _ in range(50)]
        push(valkey, lines)

        def empty() -> bool:
            assert process.poll() is None, log.read_text()
            return waiting(valkey) == 0

        eventually(empty, timeout=60, what="an empty stream")
        yield
        process.terminate()
        assert process.wait(grace) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def environment_names() -> set[str]:
    """Return the name of every variable that is a setting."""
    names: set[str] = set()
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        names |= {str(choice) for choice in choices}
    return names
