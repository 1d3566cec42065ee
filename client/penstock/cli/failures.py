"""Every error as one line that says what to do next, and an exit status. Pure.

0    done
1    a task that was waited for did not succeed
2    the command line or its input is wrong; nothing was accepted, unless it says how many were
3    no dispatcher answers
4    the pool refuses more tasks for now
5    there is no such pool, task or worker
6    no token, or one that may not do this
7    the dispatcher refuses for another reason
124  the time to wait has passed
130  interrupted
141  whoever read the output wants no more of it
"""

import dataclasses
from typing import Final

from penstock import _settings, errors

NOT_SUCCEEDED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4
MISSING: Final = 5
FORBIDDEN: Final = 6
OTHER: Final = 7
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_HUNG_UP: Final = (
    "recvmsg:Connection reset",
    "Error reading from connection",
    "End of TCP stream",
    "Endpoint closing",
)
"""In gRPC's words, a peer that takes the connection but does not speak gRPC in plain text."""
_HOW_TO_PROVE: Final = "give one with --token-file, PENSTOCK_TOKEN_FILE or PENSTOCK_TOKEN"


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What to print, without the program's name, and what to exit with."""

    line: str
    status: int


class InputError(Exception):
    """What the user gave is wrong; the text says what is, and what to do."""


class NoDispatcherError(Exception):
    """None was found to call; the text says why, and what to do."""


class AdminNeededError(Exception):
    """The call is for people who operate pools, and the token is not one of theirs."""


def of(error: Exception, *, address: str) -> Failure:
    """The failure that an error of the client, or of reading input, is. `address` was tried."""
    if isinstance(error, errors.WaitTimeout):
        return Failure(
            _join(error.message, "wait again, or raise --timeout; the task goes on"), TIMED_OUT
        )
    if isinstance(error, errors.PenstockError):
        return _of_penstock(error, address=address)
    if isinstance(error, NoDispatcherError):
        return Failure(_join(str(error)), UNREACHABLE)
    if isinstance(error, AdminNeededError):
        return Failure(
            _join(
                str(error), f"it takes a token with role admin for this namespace: {_HOW_TO_PROVE}"
            ),
            FORBIDDEN,
        )
    if isinstance(error, _settings.NoPoolError):
        return Failure(
            "which pool? Name one with --pool or PENSTOCK_POOL ('penstock pools' lists those there "
            "are), or start a local fleet with 'penstock up': its pool is found by itself",
            USAGE,
        )
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return Failure(
            _join(f"{name}{error.strerror or error}", "check the path and its permissions"), USAGE
        )
    return Failure(_join(str(error)), USAGE)


def _of_penstock(error: errors.PenstockError, *, address: str) -> Failure:
    text = error.message
    if isinstance(error, errors.Unavailable | errors.DeadlineExceeded) and not error.reason:
        if any(words in text for words in _HUNG_UP):
            return Failure(
                _join(
                    f"{address} answers and hangs up at once",
                    "this program speaks gRPC without TLS; is that a dispatcher's own port, or one "
                    "where TLS ends before it?",
                ),
                UNREACHABLE,
            )
        return Failure(
            _join(
                f"no dispatcher answers at {address}",
                "name another with --address or PENSTOCK_ADDRESS, start one with 'penstock up' or "
                "'penstock dispatcher', or reach one in a cluster with --kube",
            ),
            UNREACHABLE,
        )
    if isinstance(error, errors.Unavailable):
        return Failure(_join(text, "try again in a moment"), UNREACHABLE)
    if isinstance(error, errors.DeadlineUnreachable):
        wait = error.estimated_wait_seconds
        now = "" if wait is None else f" (it would wait {wait:.3g} s)"
        return Failure(
            _join(text, f"allow more with --max-queue-time{now}, or leave it out"), REFUSED
        )
    if isinstance(error, errors.AdmissionRefused):
        when = error.retry_after_seconds
        advice = "come back later" if when is None else f"come back in {when:.3g} s"
        how = "keep trying with --retry-for SECONDS"
        if isinstance(error, errors.QueueFull):
            how = f"wait in line with --max-wait SECONDS, or {how}"
        return Failure(_join(text, f"{advice}, {how}"), REFUSED)
    if isinstance(error, errors.Unschedulable):
        return Failure(
            _join(text, "ask for fewer with --slots, or raise spec.slotsPerWorker of the pool"),
            OTHER,
        )
    if isinstance(error, errors.PoolNotFound):
        return Failure(_join(text, "'penstock pools' lists those there are"), MISSING)
    if isinstance(error, errors.TaskNotFound):
        return Failure(_join(text, "'penstock list' lists those there are"), MISSING)
    if isinstance(error, errors.NotFound):
        return Failure(_join(text), MISSING)
    if isinstance(error, errors.Unauthenticated):
        return Failure(_join(text, _HOW_TO_PROVE), FORBIDDEN)
    if isinstance(error, errors.PermissionDenied):
        return Failure(_join(text, f"it needs another token: {_HOW_TO_PROVE}"), FORBIDDEN)
    if isinstance(error, errors.InvalidArgument):
        wrong = "; ".join(f"{each.subject}: {each.description}" for each in error.violations)
        return Failure(_join(wrong or text), USAGE)
    return Failure(_join(text), OTHER)


def _join(what: str, advice: str = "") -> str:
    """One line, whatever the other side has put into its message."""
    line = " ".join(what.split()).rstrip(".")
    return f"{line}: {advice}" if advice else line
