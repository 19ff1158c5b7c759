import sys

from tunestack_train.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
