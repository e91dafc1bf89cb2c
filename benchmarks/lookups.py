"""How fast usage and logs are answered at ten million requests, and what that costs a worker.

.venv/bin/python benchmarks/lookups.py --help
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the command; the exit code is `benchmarks.usage.cli.main`'s."""
    # A script's own folder is what Python puts here; the repository holds `benchmarks` and `tests`.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.usage.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
