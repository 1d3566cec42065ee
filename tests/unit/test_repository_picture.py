"""The README's picture is what its recording gives, and the recording is a whole run's."""

import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from rig import recording, timeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
RENDER = ROOT / "hack" / "render_fleet.py"


def test_it_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(RENDER), "--check"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_is_small_and_its_text_is_text() -> None:
    assert all(path.stat().st_size < 50_000 for path in IMAGES.iterdir())
    picture = ET.parse(IMAGES / "fleet.svg")
    said = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert recording.load(IMAGES / "fleet.json").title in said
    assert {"Queue", "Workers", "Rate", "0 s"} <= set(said)


def test_the_recorded_fleet_grew_and_shrank_with_each_burst() -> None:
    run = recording.load(IMAGES / "fleet.json")
    sizes = "".join(str(sample.wanted) for sample in run.samples)
    assert re.fullmatch(r"(1+[2-7]*8+[2-7]*){3}1+", sizes), sizes
    files = int(re.search(r"([\d,]+) files", run.title)[1].replace(",", ""))  # type: ignore[index]
    assert run.samples[-1].done >= files


def test_a_recording_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    samples = (timeline.Sample(0.25, 1, 2, 3, 4, 5, 6), timeline.Sample(1.5, 0, 0, 1, 1, 0, 9))
    made = recording.Recording("a <run>", "on a machine", samples)
    kept = tmp_path / "run.json"
    kept.write_text(recording.dump(made))
    assert recording.load(kept) == made


def test_a_recording_with_other_columns_is_refused(tmp_path: pathlib.Path) -> None:
    kept = tmp_path / "run.json"
    found: Any = recording.dump(recording.Recording("", "", ()))
    kept.write_text(found.replace('"done"', '"over"'))
    with pytest.raises(ValueError, match="record it again"):
        recording.load(kept)
