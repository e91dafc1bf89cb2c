"""`make run`: the whole system on this machine, with real traffic, and its rows as they arrive.

    python -m examples.demo [--dir ./var]

On a terminal it goes on until Ctrl-C. Without one it sends a fixed number of requests and ends:
with exit code 0 when each of them, and each of their errors, is in the database.
"""

import argparse
import asyncio
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.failed import Failed


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Run Valkey, a worker, a proxy and real traffic on this machine.",
    )
    parser.add_argument("--dir", type=Path, default=Path("var"), help="folder (default: ./var)")
    folder: Path = parser.parse_args().dir.absolute()
    try:
        with _own(folder):
            print("Starting Valkey, worker, upstream and proxy", flush=True)
            # Until here Ctrl-C may come at any moment: the clients' libraries take a second.
            from examples.run import run

            asyncio.run(run(folder))
        sys.stdout.flush()
    except Failed as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # nothing has been started yet
        return 0
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # The pipe or the terminal that we write to is gone. Everything is stopped by now.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Make the folder and hold it: two demos on one database would count each other's rows."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Failed(
            f"{folder} cannot be used ({error.strerror}): name another folder with --dir", 2
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode() or "unknown"
        os.close(descriptor)
        raise Failed(
            f"a demo is running in {folder} (process {holder}): stop it with Ctrl-C, or name "
            "another folder with --dir",
            2,
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    try:
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    raise SystemExit(main())
