"""A timeline kept as JSON: what the picture of a run is made from. Small enough to check in."""

import dataclasses
import json
import pathlib
from typing import Any, Final

from rig import timeline

_COLUMNS: Final = tuple(field.name for field in dataclasses.fields(timeline.Sample))


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """One run: what it was, in words for readers, and its samples."""

    title: str
    circumstances: str
    samples: tuple[timeline.Sample, ...]


def dump(recording: Recording) -> str:
    """A sample a line, so that a new recording is a readable change."""
    rows = ",\n".join(
        "    " + json.dumps([_rounded(getattr(sample, name)) for name in _COLUMNS])
        for sample in recording.samples
    )
    head = {
        "title": recording.title,
        "circumstances": recording.circumstances,
        "columns": list(_COLUMNS),
    }
    said = "".join(
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n"
        for key, value in head.items()
    )
    return f'{{\n{said}  "samples": [\n{rows}\n  ]\n}}\n'


def load(path: pathlib.Path) -> Recording:
    """Raises ValueError for a file with other columns than a sample has."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found["columns"] != list(_COLUMNS):
        raise ValueError(f"{path} has the columns {found['columns']}: record it again")
    return Recording(
        title=found["title"],
        circumstances=found["circumstances"],
        samples=tuple(timeline.Sample(*row) for row in found["samples"]),
    )


def _rounded(value: int | float) -> int | float:  # noqa: PYI041 - counts stay whole numbers
    return value if isinstance(value, int) else round(value, 3)
