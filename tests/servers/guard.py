"""Ends servers and removes folders when the process that made them is gone, however it went.

A second process reads a pipe whose other end only the owner holds. When the owner ends, by
SIGKILL too, the pipe closes, and the guard stops what is left. PR_SET_PDEATHSIG would not do: it
fires when the *thread* that started the server ends, it needs code between fork and exec in a
process with threads, and a change of user clears it.

Run as a script this is the guard; imported it is the owner's side. It must not import anything
of this repository: the script runs without it on its path.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import IO

import psutil

# What a server needs to shut down in order once its clients are gone; then it is killed.
GRACE_S = 5.0


class Guard:
    """The owner's side: one guard process per owner, started with the first thing to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int) -> None:
        """End this process and its children when the owner is gone."""
        self._tell(f"watch {pid}")

    def release(self, pid: int) -> None:
        """Forget a process that has ended."""
        self._tell(f"release {pid}")

    def remove(self, folder: str) -> None:
        """Remove this folder, after the processes, when the owner is gone."""
        self._tell(f"remove {folder}")

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", __file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    bufsize=0,
                    start_new_session=True,  # Ctrl-C is for the tests, not for their guard
                )
            assert self._process.stdin is not None
            # A guard that was killed is a lost net, not a failed test.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(os.fsencode(line + "\n"))

    def close(self) -> None:
        """Let the guard finish its work and end. For the owner's own exit."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            # A forked child of ours still holds the pipe: the guard waits for it, we do not.
            self._process.returncode = 0


def guard(pipe: IO[bytes]) -> None:
    """Follow the owner's orders until it is gone, then end and remove what is left."""
    watched: dict[int, psutil.Process] = {}
    folders: list[str] = []
    for line in pipe:
        order, _, argument = os.fsdecode(line.rstrip(b"\n")).partition(" ")
        if order == "remove":
            folders.append(argument)
        elif order == "release":
            watched.pop(int(argument), None)
        else:
            try:
                # psutil remembers when it was started: another process with this id is safe.
                watched[int(argument)] = psutil.Process(int(argument))
            except psutil.NoSuchProcess:
                continue
    end(list(watched.values()))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def end(servers: list[psutil.Process]) -> None:
    """Stop each server in order (SIGINT: at once, but cleanly), and kill what does not stop."""
    processes = list(servers)
    for server in servers:
        try:
            processes += server.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    for process in processes:
        _send(process, signal.SIGCONT)
    for server in servers:
        _send(server, signal.SIGINT)
    _, left = psutil.wait_procs(processes, timeout=GRACE_S)
    for process in left:
        _send(process, signal.SIGKILL)


def _send(process: psutil.Process, signal_number: int) -> None:
    try:
        process.send_signal(signal_number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    guard(sys.stdin.buffer)
