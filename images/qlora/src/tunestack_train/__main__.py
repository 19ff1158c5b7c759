"""`python -m tunestack_train` is `tunestack-train`."""

from tunestack_train.cli import run_and_end

run_and_end()
