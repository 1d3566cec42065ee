"""What open workers take: which types, and up to how many slots.

Workers that take the same types and have as many slots are of one *kind*. Kinds are few, however
many workers there are; each counts those of its workers that are *open*: that can be given
something now (see `workers`). What a task needs of a worker is its *shape*.

Nobody limits how many distinct shapes wait, so nothing here, nor in a turn of dispatch, goes
through them to see which could be served: they are asked for by what the open workers take.
"""

import dataclasses
from collections.abc import Collection
from typing import Final

Shape = tuple[str | None, int]
"""A type (None = whatever type it is) and how many slots it takes."""

ANY: Final[str | None] = None


@dataclasses.dataclass(slots=True, eq=False)
class Kind:
    """Workers that are alike; no types = any. `workers`: how many there are."""

    types: frozenset[str]
    slots: int
    workers: int = 0
    open: int = 0
    """How many can be given something now."""


UNKNOWN: Final[Kind] = Kind(frozenset(), slots=0)
"""Of a worker that has not been asked; no worker has no slots."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """The slots of the largest open worker that takes whatever type (0 = none does), and of the
    largest for each type that some take by name.
    """

    of_any: int
    of_type: dict[str, int]

    def sizes(self, waiting: Collection[int]) -> list[int]:
        """Which of those numbers of slots some open worker has."""
        widest = max(self.of_type.values(), default=0)
        widest = max(widest, self.of_any)
        if widest < len(waiting):
            return [slots for slots in range(1, widest + 1) if slots in waiting]
        return [slots for slots in waiting if slots <= widest]

    def shapes(self, slots: int, waiting: Collection[str]) -> list[Shape]:
        """What to ask for, of tasks that take so many slots and have those types, to be told of
        each that an open worker could take. Some may be told twice: by type, and whatever it is.
        """
        found: list[Shape] = [(ANY, slots)] if slots <= self.of_any else []
        if len(waiting) < len(self.of_type):
            found += [(type_, slots) for type_ in waiting if self.of_type.get(type_, 0) >= slots]
        else:
            for type_, reach in self.of_type.items():
                if reach >= slots and type_ in waiting:
                    found.append((type_, slots))
        return found


class Kinds:
    """Kinds of one pool's workers."""

    __slots__ = ("_known", "open_any", "open_by_type")

    def __init__(self) -> None:
        self._known: dict[tuple[frozenset[str], int], Kind] = {}
        self.open_any: dict[Kind, None] = {}
        """With open workers, those that take any type."""
        self.open_by_type: dict[str, dict[Kind, None]] = {}
        """With open workers, those that take the type by name."""

    def __len__(self) -> int:
        return len(self._known)

    def join(self, types: frozenset[str], slots: int) -> Kind:
        """One more worker; it is not open."""
        kind = self._known.get((types, slots))
        if kind is None:
            kind = self._known[types, slots] = Kind(types, slots)
        kind.workers += 1
        return kind

    def leave(self, kind: Kind) -> None:
        """One of its workers, which is not open, is none of it any more."""
        kind.workers -= 1
        if not kind.workers:
            del self._known[kind.types, kind.slots]

    def opened(self, kind: Kind) -> None:
        """The first of its workers opens."""
        if not kind.types:
            self.open_any[kind] = None
        for type_ in kind.types:
            of_type = self.open_by_type.get(type_)
            if of_type is None:
                of_type = self.open_by_type[type_] = {}
            of_type[kind] = None

    def closed(self, kind: Kind) -> None:
        """None of its workers is open any more."""
        if not kind.types:
            del self.open_any[kind]
        for type_ in kind.types:
            of_type = self.open_by_type[type_]
            del of_type[kind]
            if not of_type:
                del self.open_by_type[type_]

    def serve(self, shape: Shape) -> bool:
        """Some open worker has slots enough for such tasks, whether or not they are free."""
        type_, slots = shape
        if type_ is not None and _largest(self.open_by_type.get(type_, {})) >= slots:
            return True
        return _largest(self.open_any) >= slots

    def reach(self) -> Reach:
        """What open workers take at this moment."""
        of_type = {type_: _largest(kinds) for type_, kinds in self.open_by_type.items()}
        return Reach(_largest(self.open_any), of_type)


def _largest(kinds: dict[Kind, None]) -> int:
    return max((kind.slots for kind in kinds), default=0)
