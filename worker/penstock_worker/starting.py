"""The way from a process's first line to `runtime.run`.

A worker is process 1 of its container, and what process 1 has no handler for, the kernel drops: a
SIGTERM that comes while the user's modules are being imported would be lost, and the pod would stay
for its whole grace period. So a handler comes first of all, before any import that takes time (the
runtime's own among them: gRPC is large). Nothing runs yet, and nobody is owed anything: it exits.
"""

import os
import signal
import sys
from types import FrameType

from penstock_worker import modes, settings


def heed_signals() -> None:
    """From now on SIGTERM and SIGINT end the process with status 0, until `runtime` takes over."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    # Not an exception: the user's module may catch whatever rises through its import.
    os.write(2, f"{signal.Signals(number).name} received while starting\n".encode())
    os._exit(0)


def serve(mode: modes.Mode) -> int:
    """Serve the pool that the environment names; returns the exit status."""
    heed_signals()
    try:
        config = settings.from_environment()
    except settings.SettingsError as error:
        print(f"penstock-worker: {error}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 2
    from penstock_worker import runtime

    return runtime.run(mode, config)
