"""The command line of `penstock-worker exec`, and whether its command can be run at all.

What is wrong with the command is said here, at the start: afterwards it would cost every task its
attempts.
"""

import argparse
import math
import os
import shutil
from pathlib import Path
from typing import NoReturn

from penstock_worker import app, command, command_terms, loading, modes

STATUS_MAX = 255
CONTENT_TYPE_LENGTH_MAX = 256
SHEBANG_BYTES_MAX = 256
ENV_WORDS = 2
"""Of `#!/usr/bin/env perl`; what has more is left to the system."""
_USAGE = "penstock-worker exec [--type NAME]… [options] -- COMMAND [ARGUMENT]…"


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as everything else at the start does."""

    def error(self, message: str) -> NoReturn:
        raise loading.LoadingError(f"exec: {message}; see penstock-worker exec --help")


def mode(arguments: list[str]) -> modes.Exec:
    """What was asked for. Raises LoadingError."""
    own, dashes, words = _split(arguments)
    options = _parser().parse_args(own)
    if not words:
        missing = "name the command after --" if dashes else "put -- and the command at the end"
        raise loading.LoadingError(f"{missing}: {_USAGE}")
    return modes.Exec(
        command.Command(tuple(words), executable(words[0])),
        command_terms.Terms(
            no_retry=frozenset(options.no_retry or (command_terms.EX_DATAERR,)),
            retry_later_seconds=options.retry_later_seconds,
            content_type=options.content_type,
        ),
        tuple(sorted(set(options.type))),
    )


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="penstock-worker exec",
        usage=_USAGE,
        description="Run a command for each task: the payload on its standard input, the result"
        " from its standard output, the rest in PENSTOCK_TASK_… variables. Exit status 0 completes"
        f" the task; {command_terms.EX_TEMPFAIL} asks to be tried later; any other is a failure.",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        type=_type,
        metavar="NAME",
        help="take tasks of this type only; may be repeated (default: tasks of every type)",
    )
    parser.add_argument(
        "--no-retry",
        action="append",
        type=_status,
        metavar="STATUS",
        help="exit status after which trying again is of no use; may be repeated (default:"
        f" {command_terms.EX_DATAERR}, which sysexits.h calls EX_DATAERR)",
    )
    parser.add_argument(
        "--retry-later-seconds",
        type=_seconds,
        default=command_terms.TEMPFAIL_SECONDS_DEFAULT,
        metavar="SECONDS",
        help=f"delay after exit status {command_terms.EX_TEMPFAIL} (EX_TEMPFAIL), within the pool's"
        " maximum (default: %(default)g)",
    )
    parser.add_argument(
        "--content-type",
        type=_content_type,
        default=command_terms.CONTENT_TYPE_DEFAULT,
        metavar="TYPE",
        help="what the results are (default: %(default)s)",
    )
    return parser


def executable(name: str) -> str:
    """The file that a command's first word means. Raises LoadingError if it cannot be run."""
    found = shutil.which(name)
    if found is None:
        raise loading.LoadingError(_why_not(name))
    missing = _missing_interpreter(Path(found))
    if missing:
        raise loading.LoadingError(
            f"cannot run {name!r}: its first line names {missing!r}, which is not there"
        )
    return os.path.abspath(found)  # noqa: PTH100 - a link's own name is what the program sees


def _why_not(name: str) -> str:
    path = Path(name)
    if os.sep not in name:
        return f"there is no command {name!r} in PATH"
    if path.is_dir():
        return f"cannot run {name!r}: it is a folder"
    if path.exists():
        return f"cannot run {name!r}: it is not executable (chmod +x)"
    return f"cannot run {name!r}: there is no such file in {Path.cwd()}"


def _missing_interpreter(path: Path) -> str:
    try:
        with path.open("rb") as file:
            first = file.read(SHEBANG_BYTES_MAX).partition(b"\n")[0]
    except OSError:
        return ""  # it may be run and not be read
    if not first.startswith(b"#!"):
        return ""
    # A carriage return at the end of the line is a part of the name, for the kernel too.
    words = first[2:].lstrip(b" \t").replace(b"\t", b" ").split(b" ")
    interpreters = [os.fsdecode(words[0])]
    if Path(interpreters[0]).name == "env" and len(words) == ENV_WORDS and words[1][:1] != b"-":
        interpreters.append(os.fsdecode(words[1]))
    return next((each for each in interpreters if not shutil.which(each)), "")


def _type(text: str) -> str:
    if not 1 <= len(text) <= app.TYPE_LENGTH_MAX:
        raise argparse.ArgumentTypeError(f"must have 1 to {app.TYPE_LENGTH_MAX} characters")
    return text


def _status(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= STATUS_MAX:
        raise argparse.ArgumentTypeError(f"must be an exit status, 1 to {STATUS_MAX}, is {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, is {text!r}")
    return seconds


def _content_type(text: str) -> str:
    if len(text) > CONTENT_TYPE_LENGTH_MAX:
        raise argparse.ArgumentTypeError(f"must have at most {CONTENT_TYPE_LENGTH_MAX} characters")
    return text
