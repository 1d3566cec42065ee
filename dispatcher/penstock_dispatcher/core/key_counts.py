"""How many there are of each key, and whose count has gone down.

Whoever waits for one of a key to go *watches* the key, and finds it among the freed ones
afterwards: nobody asks each key again and again.
"""


class KeyCounts:
    """Counts by key; keys that have none are not kept."""

    __slots__ = ("_counts", "_freed", "_watched")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._watched: set[str] = set()
        self._freed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, key: str) -> int:
        """How many there are of that key."""
        return self._counts.get(key, 0)

    def add(self, key: str) -> None:
        """One more."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, key: str) -> None:
        """One less."""
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]
        if key in self._watched:
            self._freed[key] = None

    def watch(self, key: str) -> None:
        """Note the key among the freed ones when its count goes down."""
        self._watched.add(key)

    def unwatch(self, key: str) -> None:
        """Nobody waits for that key any more. Idempotent."""
        self._watched.discard(key)
        self._freed.pop(key, None)

    def unwatch_all(self) -> None:
        """Nobody waits for any key any more."""
        self._watched.clear()
        self._freed.clear()

    @property
    def freed(self) -> bool:
        """`take_freed` has something."""
        return bool(self._freed)

    def take_freed(self) -> list[str]:
        """Watched keys whose count has gone down since they were watched, in that order; they are
        not watched any more.
        """
        taken = list(self._freed)
        self._freed.clear()
        self._watched.difference_update(taken)
        return taken
