"""Where a task stands among those of its priority that could start.

For each priority the sequences of its tasks lie in blocks of bits, one integer a block. A task's
place is a count of the bits before its own: exact, and found without looking at a task. Its cost
grows with the blocks, of which there is one for every `BLOCK` tasks that came one after the other;
where what is left lies scattered over too many of them, the place is not told.
"""

from typing import Final

BLOCK: Final = 1024
"""Sequences in a block; a power of two."""
BLOCKS_LOOKED_AT_MAX: Final = 10_240
UNKNOWN: Final = -1

_SHIFT: Final = BLOCK.bit_length() - 1
_WITHIN: Final = BLOCK - 1


class Places:
    """Ready tasks of one pool, by priority and sequence."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: dict[int, dict[int, int]] = {}

    def add(self, priority: int, sequence: int) -> None:
        """One more task."""
        blocks = self._blocks.get(priority)
        if blocks is None:
            blocks = self._blocks[priority] = {}
        number = sequence >> _SHIFT
        blocks[number] = blocks.get(number, 0) | 1 << (sequence & _WITHIN)

    def remove(self, priority: int, sequence: int) -> None:
        """That task has left."""
        blocks = self._blocks[priority]
        number = sequence >> _SHIFT
        left = blocks[number] ^ 1 << (sequence & _WITHIN)
        if left:
            blocks[number] = left
            return
        del blocks[number]
        if not blocks:
            del self._blocks[priority]

    def before(self, priority: int, sequence: int) -> int:
        """How many tasks of that priority have a lower sequence; UNKNOWN = it would cost too
        much to tell.
        """
        blocks = self._blocks.get(priority, {})
        if len(blocks) > BLOCKS_LOOKED_AT_MAX:
            return UNKNOWN
        own = sequence >> _SHIFT
        lower = (1 << (sequence & _WITHIN)) - 1
        earlier = sum(bits.bit_count() for number, bits in blocks.items() if number < own)
        return earlier + (blocks.get(own, 0) & lower).bit_count()
