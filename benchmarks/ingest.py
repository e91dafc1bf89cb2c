"""From a proxy's event to a committed row: how fast, beside COPY, an ORM and one job per event.

.venv/bin/python benchmarks/ingest.py --help
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the benchmark; the exit code is `benchmarks.cli.main`'s."""
    # A script's own folder is what Python puts here; the repository holds `benchmarks` and `tests`.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
