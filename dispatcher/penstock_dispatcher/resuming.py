"""Resume tokens: what somebody who watches has seen of a pool, in this run of the dispatcher.

A token of two numbers: of every task, all changes up to a record. One of four comes from a watch
that was catching up: that is so for tasks up to a place in the order of admission; of those behind
it, changes are seen up to an earlier record only. After a restart nothing counts as seen: records
are numbered anew.
"""

import re
from typing import Final, NamedTuple

from penstock_dispatcher import errors

EVERY: Final = 2**63 - 1
"""No task has a higher sequence."""

_NUMBER: Final = r"(-1|[0-9a-f]{1,16})"
_TOKEN: Final = re.compile(rf"([0-9a-f]{{1,16}})\.{_NUMBER}(?:\.{_NUMBER}\.{_NUMBER})?")


class Seen(NamedTuple):
    """Changes up to record `lsn` of tasks up to sequence `reached`, of later ones up to `floor`;
    -1 = nothing, not even what there was before the first record.
    """

    lsn: int = -1
    floor: int = -1
    reached: int = EVERY


def token(epoch: int, lsn: int) -> str:
    """Every task is seen up to that record."""
    return f"{epoch:x}.{lsn:x}"


def suffix(floor: int, reached: int) -> str:
    """What makes a token one of a watch that is catching up."""
    return f".{floor:x}.{reached:x}"


def seen(text: str, epoch: int) -> Seen:
    """What a token says to the run of that epoch. Raises Refusal."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise errors.invalid("resume_token", "must come from an event of WatchTasks")
    run, *numbers = (int(part, 16) for part in match.groups() if part is not None)
    return Seen(*numbers) if run == epoch else Seen()
