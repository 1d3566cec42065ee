"""`python guard.py PARENT_PID PROGRAM [ARGUMENT…]`: a program that never outlives its parent.

Asks the kernel for a SIGKILL when the parent ends, however that happens, and becomes the program;
the wish survives exec. A small interpreter that only does this is safer than code between fork and
exec of a process with gRPC's threads in it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Returns only if the parent has ended before the kernel was asked."""
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("penstock: the kernel refuses PR_SET_PDEATHSIG")
    if os.getppid() != int(parent):
        return 1
    # What Python ignores and other programs do not expect to be ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - argument list, no shell
    except OSError as error:
        sys.exit(f"penstock: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
