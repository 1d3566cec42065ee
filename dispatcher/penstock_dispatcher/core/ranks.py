"""Where a task stands among those that could start, where the order is not that of priorities.

Under aging a task of any priority may stand before another one, so that no count of priorities
tells its place. All ranks lie in order here, in blocks: a task comes and goes for two searches, and
its place is the sum of the sizes of the blocks before its own: exact, whatever the ranks. Two
neighbours are more than `BLOCK` together, so that there are never more than two blocks for every
`BLOCK` tasks.
"""

import bisect
from collections.abc import Iterable
from typing import Final

BLOCK: Final = 1024
"""Tasks in a block, at most twice as many."""
_SEQUENCE_BITS: Final = 64


def _key(rank: int, sequence: int) -> int:
    """One number for both; lower is first."""
    return (rank << _SEQUENCE_BITS) + sequence


class Ranks:
    """Ready tasks of one pool, by rank (see `ready.rank`) and sequence."""

    __slots__ = ("_blocks", "_lasts")

    def __init__(self, tasks: Iterable[tuple[int, int]] = ()) -> None:
        keys = sorted([_key(rank, sequence) for rank, sequence in tasks])
        self._blocks = [keys[start : start + BLOCK] for start in range(0, len(keys), BLOCK)]
        self._lasts = [block[-1] for block in self._blocks]
        """The last one of each block."""

    def add(self, rank: int, sequence: int) -> None:
        """One more task."""
        key = _key(rank, sequence)
        number = bisect.bisect_left(self._lasts, key)
        if number == len(self._blocks):
            if not number:
                self._blocks.append([key])
                self._lasts.append(key)
                return
            number -= 1
        block = self._blocks[number]
        bisect.insort(block, key)
        if len(block) > 2 * BLOCK:
            self._blocks.insert(number + 1, block[BLOCK:])
            self._lasts.insert(number + 1, block[-1])
            del block[BLOCK:]
        self._lasts[number] = block[-1]

    def remove(self, rank: int, sequence: int) -> None:
        """That task has left."""
        key = _key(rank, sequence)
        number = bisect.bisect_left(self._lasts, key)
        block = self._blocks[number]
        index = bisect.bisect_left(block, key)
        assert block[index] == key, "only what is there can leave"
        del block[index]
        if block:
            self._lasts[number] = block[-1]
        self._join(number)
        self._join(number - 1)

    def _join(self, number: int) -> None:
        """Make one of a block and the next one, if they are small; an empty one is dropped."""
        if not 0 <= number < len(self._blocks):
            return
        block = self._blocks[number]
        if number + 1 < len(self._blocks):
            following = self._blocks[number + 1]
            if len(block) + len(following) <= BLOCK:
                following[:0] = block
                block.clear()
        if not block:
            del self._blocks[number], self._lasts[number]

    def before(self, rank: int, sequence: int) -> int:
        """How many tasks come before one of that rank and sequence, whether it is there or not."""
        key = _key(rank, sequence)
        number = bisect.bisect_left(self._lasts, key)
        earlier = sum([len(block) for block in self._blocks[:number]])
        if number == len(self._blocks):
            return earlier
        return earlier + bisect.bisect_left(self._blocks[number], key)
