"""What waits of each key, to tell how much of it could start: for scaling, not for the order."""

from collections.abc import Callable
from typing import Final

KEYS_MEASURED_MAX: Final = 10_000
"""Keys that are asked for their room in one look. What waits of others counts whole: with so many
keys waiting no fleet is too large.
"""


def part(slots: int, *, tasks: int, room: int) -> int:
    """What `room` of so many tasks take, if they take as much each; rounded up."""
    return slots if tasks <= room else -(-slots * room // tasks)


class WaitingKeys:
    """Tasks and slots that wait, by key."""

    __slots__ = ("_of_key", "_slots")

    def __init__(self) -> None:
        self._of_key: dict[str, tuple[int, int]] = {}
        self._slots = 0

    def add(self, key: str, slots: int) -> None:
        """One more task."""
        count, taken = self._of_key.get(key, (0, 0))
        self._of_key[key] = (count + 1, taken + slots)
        self._slots += slots

    def remove(self, key: str, slots: int) -> None:
        """One task less."""
        count, taken = self._of_key[key]
        self._slots -= slots
        if count > 1:
            self._of_key[key] = (count - 1, taken - slots)
        else:
            del self._of_key[key]

    @property
    def slots(self) -> int:
        """What all of them take."""
        return self._slots

    def count(self, key: str) -> int:
        """How many tasks of that key wait."""
        return self._of_key.get(key, (0, 0))[0]

    def startable(self, room: Callable[[str], int]) -> int:
        """Slots of what could start; `room` says how many tasks of a key could."""
        found, measured = 0, 0
        for number, (key, (count, slots)) in enumerate(self._of_key.items()):
            if number == KEYS_MEASURED_MAX:
                break
            measured += slots
            found += part(slots, tasks=count, room=max(0, room(key)))
        return found + self._slots - measured
