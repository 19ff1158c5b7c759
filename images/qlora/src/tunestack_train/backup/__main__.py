"""`python -m tunestack_train.backup`."""

import sys

from tunestack_train.backup.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
