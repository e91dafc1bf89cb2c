"""`python -m spoolway.worker.cli`: the command, where its script may not be on the path."""

from spoolway.worker.cli import main

if __name__ == "__main__":
    main()
