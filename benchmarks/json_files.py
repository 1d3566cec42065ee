"""Where the benchmarks' programs leave their figures for other programs: `--json FOLDER`."""

import json
import pathlib
from typing import Any

JSON_HELP = "also write the figures into this folder, into a file named after this program"


def write_json(folder: pathlib.Path, program: str, figures: Any) -> None:
    """`figures` as `<folder>/<program>.json`; the folder is made when it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{program}.json").write_text(json.dumps(figures, indent=1) + "\n")
