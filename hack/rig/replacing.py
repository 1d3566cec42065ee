"""One attribute of a class, or of a module, that is another one for as long as a block lasts."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Replace = Callable[[Any], Any]
"""The method as it is → the one in its place."""


@contextlib.contextmanager
def replaced(owner: Any, name: str, replace: Replace) -> Iterator[None]:
    """The attribute is what `replace` makes of it inside the block."""
    kept = owner.__dict__[name]
    setattr(owner, name, replace(kept))
    try:
        yield
    finally:
        setattr(owner, name, kept)
