"""How far it carries: workers, rows, backlog and size, measured; and what a load needs, predicted.

.venv/bin/python benchmarks/capacity.py --help
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the command; the exit code is `benchmarks.scale.cli.main`'s."""
    # A script's own folder is what Python puts here; the repository holds `benchmarks` and `tests`.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.scale.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
