"""`python -m tunestack_train.launch OPTIONS -m tunestack_train …`: torchrun, with an exit code that tells why it ended.

torchrun itself ends with 1 whatever its processes ended with, and also when another machine was lost. Whoever starts a
run again by its exit code, as the Job controller of a cluster does, has to tell a mistake, which would come again, from
a request to stop and from a machine that is gone.
"""

import signal
import sys
from collections.abc import Collection, Sequence

from tunestack_train.errors import StopRequested
from tunestack_train.processes import ProcessLostError

_BY_SIGNAL = 128


def main(arguments: Sequence[str]) -> int:
    """Starts the processes of this machine by torchrun's options, waits for them, and returns the exit code."""
    from torch import distributed
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    # As a container's first process it gets no signal that it does not handle, and torchrun does so only once it has
    # found the other machines.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(StopRequested.exit_code))
    try:
        run.main(list(arguments))
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return cause([failure.exitcode for failure in error.failures.values()])
    except SignalException:
        # Its processes got the request too, and have saved what they could.
        return StopRequested.exit_code
    except (RendezvousError, distributed.DistError) as error:
        print(f"tunestack-train: the other machines of the run cannot be reached: {error}", file=sys.stderr)
        return ProcessLostError.exit_code
    return 0


def cause(codes: Collection[int]) -> int:
    """Why the processes of a machine ended, of the exit codes of all that did: below 0 is a signal.

    One that made a mistake or was killed takes the others along, which then stop or say that they lost it.
    """
    after = (StopRequested.exit_code, ProcessLostError.exit_code)
    mistakes = [code for code in codes if code > 0 and code not in after]
    killed = [_BY_SIGNAL - code for code in codes if code < 0 and code != -signal.SIGTERM]
    lost = [code for code in codes if code == ProcessLostError.exit_code]
    return [*mistakes, *killed, *lost, StopRequested.exit_code][0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
