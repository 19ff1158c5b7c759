"""`python -m tunestack_train` is `tunestack-train`."""

import sys

from tunestack_train.cli import main

sys.exit(main())
