"""`python -m tunestack_train.monitor`."""

import sys

from tunestack_train.monitor.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
