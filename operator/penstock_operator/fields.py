"""Reads the fields of a manifest, and collects what is wrong with them.

A `Reader` stands for one object of the document. Each verb reads one field, falls back to the
default of the custom resource's schema when the field is absent (a YAML null counts as absent, as
it does for an API server), and notes a violation instead of raising, so that a person mends a
manifest in one go. Nothing is ever changed quietly: a value that cannot be used is refused, and
the default stands in only so that reading can go on.

Pure: no I/O, no clock.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

QUANTITY: Final = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|k|M|G)?\Z")
QUANTITY_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}
QUANTITY_CHARACTERS_MAX: Final = 20
SHOWN_CHARACTERS_MAX: Final = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path as the person wrote it, and what is wrong and what to do about it."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class InvalidManifest(ValueError):  # noqa: N818  it names the thing, as the messages do
    """A manifest that cannot be used. `violations` has every bad field, in the order of the
    document.
    """

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("; ".join(str(violation) for violation in violations))
        self.violations = violations


def shown(value: object) -> str:
    """A value as it stands in a message: short, and with its type where that is the point."""
    text = repr(value)
    if len(text) > SHOWN_CHARACTERS_MAX:
        text = text[: SHOWN_CHARACTERS_MAX - 1] + "…"
    if isinstance(value, str):
        return f"the text {text}"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else text


class Reader:
    """One object of a manifest at `path`. The readers of a document share a list of violations."""

    def __init__(self, value: object, *, path: str, violations: list[Violation]) -> None:
        self.path = path
        self.violations = violations
        self.present = isinstance(value, Mapping)
        self._value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        self._known: set[str] = set()
        if value is not None and not self.present:
            violations.append(Violation(path, f"must be an object, is {shown(value)}"))

    def refuse(self, name: str, description: str) -> None:
        """Note that a field of this object cannot be used."""
        path = ".".join(part for part in (self.path, name) if part)
        self.violations.append(Violation(path, description))

    def has(self, name: str) -> bool:
        """The field is there and not null."""
        return self._value.get(name) is not None

    @property
    def names(self) -> tuple[Any, ...]:
        """The keys that the object has, of any kind; for one whose keys are a person's own."""
        return tuple(self._value)

    def raw(self, name: str) -> Any:
        """The field as it is; None when absent."""
        self._known.add(name)
        return self._value.get(name)

    def child(self, name: str) -> "Reader":
        """The object in a field; an absent one reads as an empty one."""
        path = f"{self.path}.{name}" if self.path else name
        return Reader(self.raw(name), path=path, violations=self.violations)

    def integer(
        self, name: str, *, default: int, minimum: int, maximum: int, hint: str = ""
    ) -> int:
        """A whole number within bounds."""
        value = self.optional_integer(name, minimum=minimum, maximum=maximum, hint=hint)
        return default if value is None else value

    def optional_integer(
        self, name: str, *, minimum: int, maximum: int, hint: str = ""
    ) -> int | None:
        """A whole number within bounds, or None when absent (or refused)."""
        value = self.raw(name)
        if value is None:
            return None
        advice = f"; {hint}" if hint else ""
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(
                name,
                f"must be a whole number from {minimum} to {maximum}, is {shown(value)}{advice}",
            )
            return None
        if not minimum <= value <= maximum:
            self.refuse(name, f"must be from {minimum} to {maximum}, is {value}{advice}")
            return None
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, f"must be true or false, is {shown(value)}")
            return default
        return value

    def choice(self, name: str, *, default: str, options: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.raw(name)
        if value is None:
            return default
        if value not in options:
            self.refuse(name, f"must be one of {', '.join(options)}, is {shown(value)}")
            return default
        return str(value)

    def text(self, name: str, *, default: str, characters_max: int) -> str:
        """Text that is not empty."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str) or not 1 <= len(value) <= characters_max:
            self.refuse(
                name, f"must be text of 1 to {characters_max} characters, is {shown(value)}"
            )
            return default
        return value

    def texts(self, name: str, *, items_max: int, characters_max: int) -> tuple[str, ...]:
        """A list of texts, none of them empty; absent reads as empty."""
        value = self.raw(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > items_max:
            self.refuse(name, f"must be a list of at most {items_max} texts, is {shown(value)}")
            return ()
        for place, item in enumerate(value):
            if not isinstance(item, str) or not 1 <= len(item) <= characters_max:
                self.refuse(
                    f"{name}[{place}]",
                    f"must be text of 1 to {characters_max} characters, is {shown(item)}",
                )
                return ()
        return tuple(value)

    def size_bytes(self, name: str, *, default: int, minimum: int, maximum: int) -> int:
        """A number of bytes within bounds, plain or as a quantity such as 256Mi; fractions are
        rounded down.
        """
        value = self.raw(name)
        if value is None:
            return default
        size = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str) and len(value) <= QUANTITY_CHARACTERS_MAX:
            match = QUANTITY.match(value)
            if match is not None:
                number, unit = match.groups()
                size = int(float(number) * QUANTITY_UNITS[unit or ""])
        if size is None:
            self.refuse(
                name, f"must be a number of bytes or a quantity such as 256Mi, is {shown(value)}"
            )
            return default
        if not minimum <= size <= maximum:
            self.refuse(name, f"must be from {minimum} to {maximum} bytes, is {shown(value)}")
            return default
        return size

    def refuse_unknown(self) -> None:
        """Note every field that nobody asked for; call it last."""
        for name in self._value:
            if name in self._known:
                continue
            close = difflib.get_close_matches(str(name), self._known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "remove it"
            self.refuse(str(name), f"there is no such field; {remedy}")
