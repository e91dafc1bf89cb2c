"""No harm: what a proxy loses by being recorded, also while Redis is stopped, hung or full.

.venv/bin/python benchmarks/proxy.py --help
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the benchmark; the exit code is `benchmarks.proxied.cli.main`'s."""
    # A script's own folder is what Python puts here; the repository holds `benchmarks` and `tests`.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.proxied.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
