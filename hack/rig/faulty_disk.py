"""A dispatcher whose disk fails when told to: `python -m rig.faulty_disk FILE ARGUMENTS…`.

Between SQLite and the system lies its VFS; here, that of the journal's process answers a read, a
write or a sync with the error that it gives for EIO, or for ENOSPC, instead of doing it. FILE says
which ones, a line for each: "log sync", "file read", "log full", … Nothing fails while it is
missing or empty.

No device, no mount and no compiler: SQLite's own structures, by ctypes. `reachable` tells whether
this Python's SQLite lets itself be reached.
"""

import _sqlite3
import ctypes
import pathlib
import sys
from typing import Any
from unittest import mock

MAIN_DB, WAL = 0x100, 0x80000
IOERR_READ, IOERR_WRITE, IOERR_FSYNC, FULL = 266, 778, 1034, 13

_File = ctypes.c_void_p
_Open = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(ctypes.c_void_p, ctypes.c_char_p, _File, ctypes.c_int, ctypes.POINTER(ctypes.c_int)),
)
_Move = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """The beginning of `sqlite3_vfs`."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("path_bytes_max", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", _Open),
    )


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("close", ctypes.c_void_p),
        ("read", _Move),
        ("write", _Move),
        ("truncate", ctypes.c_void_p),
        ("sync", _Sync),
        ("others", ctypes.c_void_p * 13),
    )


class _OpenFile(ctypes.Structure):
    """The beginning of every open file."""

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


_kept: list[Any] = []
"""What C points to must not be collected."""


def _library() -> Any:
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    return library


def reachable() -> bool:
    """Is SQLite a library whose names can be found?"""
    try:
        return bool(_library().sqlite3_vfs_find(None))
    except (AttributeError, OSError):
        return False


def install(faults: pathlib.Path) -> None:
    """From now on files that SQLite opens fail as `faults` says."""

    def wanted(fault: str) -> bool:
        try:
            return fault in faults.read_text().splitlines()
        except FileNotFoundError:
            return False

    def failing(methods: _Methods, name: str) -> _Methods:
        read, write, sync = methods.read, methods.write, methods.sync

        def on_read(file: Any, into: Any, count: int, offset: int) -> int:
            return IOERR_READ if wanted(f"{name} read") else int(read(file, into, count, offset))

        def on_write(file: Any, data: Any, count: int, offset: int) -> int:
            if wanted(f"{name} write"):
                return IOERR_WRITE
            return FULL if wanted(f"{name} full") else int(write(file, data, count, offset))

        def on_sync(file: Any, flags: int) -> int:
            return IOERR_FSYNC if wanted(f"{name} sync") else int(sync(file, flags))

        made = _Methods.from_buffer_copy(methods)
        made.read, made.write, made.sync = _Move(on_read), _Move(on_write), _Sync(on_sync)
        _kept.append((made, methods, read, write, sync))
        return made

    vfs = _library().sqlite3_vfs_find(None).contents
    really_open = _Open(ctypes.cast(vfs.open, ctypes.c_void_p).value or 0)
    known: dict[tuple[int, str], _Methods] = {}

    def on_open(vfs_: Any, path: Any, file: Any, flags: int, out: Any) -> int:
        result = int(really_open(vfs_, path, file, flags, out))
        name = {MAIN_DB: "file", WAL: "log"}.get(flags & (MAIN_DB | WAL))
        if result == 0 and name is not None:
            opened = _OpenFile.from_address(file)
            at = ctypes.addressof(opened.methods.contents)
            if (at, name) not in known:
                known[at, name] = failing(opened.methods.contents, name)
            opened.methods = ctypes.pointer(known[at, name])
        return result

    vfs.open = _Open(on_open)
    _kept.extend((vfs, vfs.open, really_open, known, on_open))


def _main(faults: str, arguments: list[str]) -> int:
    if arguments[0].isdigit():  # the descriptor that a journal's process is given
        from penstock_dispatcher.journal import served

        install(pathlib.Path(faults))
        return served.main(arguments)
    from penstock_dispatcher import __main__ as program
    from penstock_dispatcher.journal import process

    with mock.patch.object(process, "PROGRAM", ("-P", "-m", "rig.faulty_disk", faults)):
        return program.main(arguments)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2:]))
