"""Helper programs that run beside us, ended by us, by process id.

Each is in a session of its own, so that Ctrl-C reaches only the program that must clean up, not
the helpers it still needs for that.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

END_SECONDS_MAX = 5.0
CLEAN_UP_SECONDS_MAX = 60.0

_alive: set[subprocess.Popen[str]] = set()


def start(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a helper; its standard output and error come as one pipe of text."""
    process = subprocess.Popen(
        command,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _alive.add(process)
    return process


def stop(process: subprocess.Popen[str]) -> None:
    """End a helper, gently and then not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS_MAX)
    if process.stdout is not None:
        process.stdout.close()
    _alive.discard(process)


@atexit.register
def _stop_all() -> None:
    for process in list(_alive):
        stop(process)


def run_to_end(command: Sequence[str], *, stdout: int | None = None) -> int:
    """Run a program that must clean up after itself; its exit status.

    Interrupted, it is asked to end and waited for: `subprocess.run` would kill it a quarter of a
    second later, and leave what it had begun.
    """
    process = subprocess.Popen(command, stdout=stdout)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(CLEAN_UP_SECONDS_MAX)
        raise


def hear_interrupts() -> None:
    """For `preexec_fn`: whoever runs the tests in the background may have SIGINT ignored, and every
    program inherits that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
