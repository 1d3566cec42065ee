"""A program that runs another one for no longer than whoever started it lives.

    python keeping.py COMMAND [ARGUMENT...]

Its standard input is a pipe that nobody writes to: that ends when the starter does, even by
SIGKILL, on any system; then the command is ended. SIGTERM ends it too. The command has this
program's output, and its exit status is this program's. Run by path, with the standard library
alone: it starts in a few hundredths of a second.
"""

import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Final

END_SECONDS: Final = 2.0
"""How long the command may take to end after SIGTERM."""


def main(command: list[str]) -> int:
    """Returns the command's exit status, as a shell would say it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end() -> None:
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    def starter_ended() -> None:
        while os.read(0, 1):
            pass
        end()

    def asked(_: int, __: FrameType | None) -> None:
        # A handler must not wait for what the main thread waits for.
        threading.Thread(target=end, daemon=True).start()

    signal.signal(signal.SIGTERM, asked)
    threading.Thread(target=starter_ended, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
