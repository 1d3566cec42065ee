"""The journal's process: `python -m penstock_dispatcher.journal.served DESCRIPTOR SETTINGS`.

Started by `process`, and spoken to over the socket DESCRIPTOR; SETTINGS are the arguments of
`sqlite.SqliteJournal`, as JSON. It does what it is asked, one after the other, and ends when the
other end is gone. Linux ends it together with its dispatcher, in the middle of whatever it does.

A message is a head and a body. Asked: what is wanted, and how long the body is. Answered: how it
went, whether the journal is `full`, and how long the body is. Between them the journal may `SAY`
something, which answers nothing.
"""

import contextlib
import ctypes
import functools
import json
import pathlib
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

from penstock_dispatcher.journal import interface, packing, sqlite

ASKED: Final = struct.Struct("<BI")
ANSWERED: Final = struct.Struct("<B?I")

_PR_SET_PDEATHSIG: Final = 1

OPEN, LOAD_TASKS, LOAD_REQUESTS, APPEND, FOLLOW, COMPACT = range(6)
"""What can be asked."""
DONE, STORAGE_FULL, FAILED, SAY = range(4)
"""How it went: done, with what it yields; not, and why."""


def _open(journal: sqlite.SqliteJournal, _: bytes) -> bytes:
    opened = journal.open()
    return packing.opened(opened, journal.pool_uids)


def _append(journal: sqlite.SqliteJournal, body: bytes, *, follows: bool = False) -> bytes:
    journal.append(packing.from_batch(body), follows=follows)
    return b""


_WORK: Final[dict[int, Callable[[sqlite.SqliteJournal, bytes], bytes]]] = {
    OPEN: _open,
    LOAD_TASKS: lambda journal, body: packing.values(journal.load_rows(packing.from_values(body))),
    LOAD_REQUESTS: lambda journal, body: packing.values(
        journal.load_request_rows(packing.from_values(body))
    ),
    APPEND: _append,
    FOLLOW: functools.partial(_append, follows=True),
    COMPACT: lambda journal, _: packing.values(journal.compact()),
}


def _answer(
    journal: sqlite.SqliteJournal, what: int, body: bytes, say: Callable[[str], None]
) -> tuple[int, bytes]:
    try:
        return DONE, _WORK[what](journal, body)
    except interface.StorageFull as error:
        return STORAGE_FULL, _text(str(error))
    except interface.JournalFailed as error:
        return FAILED, _text(str(error))
    except Exception as error:
        say(f"a fault of the journal\n{traceback.format_exc()}")
        return FAILED, _text(f"a fault of the journal: {error!r}")


def _text(text: str) -> bytes:
    """A folder's name need not be Unicode."""
    return text.encode(errors="backslashreplace")


def serve(connection: socket.socket, settings: dict[str, Any]) -> None:
    """Answer until nobody asks any more."""

    def tell(how: int, body: bytes) -> None:
        connection.sendall(ANSWERED.pack(how, journal.full(), len(body)) + body)

    def say(text: str) -> None:
        tell(SAY, _text(text))

    folder = pathlib.Path(settings.pop("folder"))
    journal = sqlite.SqliteJournal(folder, say=say, **settings)
    try:
        with connection.makefile("rb") as asked:
            while len(head := asked.read(ASKED.size)) == ASKED.size:
                what, size = ASKED.unpack(head)
                body = asked.read(size)
                if len(body) < size:  # cut off: whoever asked is gone
                    return
                how, answer = _answer(journal, what, body, say)
                tell(how, answer)
                if how == FAILED:  # nothing is done with a file of which nobody knows what it has
                    return
    except ConnectionError:
        return  # the same, while it was told
    finally:
        journal.close()


def _end_with_whoever_started_it() -> None:
    """Elsewhere than on Linux the end of the socket must do, which is seen only after a verb."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(arguments: Sequence[str]) -> int:
    """See the module's docstring."""
    _end_with_whoever_started_it()
    # A terminal and a supervisor may signal the whole group. The dispatcher then has some seconds
    # to commit what it has decided: this process ends with it, and not before.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor, settings = arguments
    with socket.socket(fileno=int(descriptor)) as connection:
        serve(connection, json.loads(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
