"""`spoolway worker` that leaves nothing for the roll-ups: what they cost is measured against it.

python -m benchmarks.usage.worker_without worker --dir …
"""

from unittest.mock import patch

from spoolway.worker.cli import main

_WRITERS = ("postgres", "sqlite_batch")

if __name__ == "__main__":
    for writer in _WRITERS:
        patch(f"spoolway.worker.stores.{writer}.facts_of", lambda *_: ()).start()
    main()
