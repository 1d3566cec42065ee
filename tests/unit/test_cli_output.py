"""Values as people and programs want them; the reference page; a missing library."""

import datetime as dt
import json
import pathlib
import subprocess
import sys

import pytest
import yaml

from penstock import _task
from penstock.cli import output, tasks
from penstock.v1 import task_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def a_task() -> _task.Task:
    message = task_pb2.Task(
        name="namespaces/default/pools/demo/tasks/t1",
        type="[bold]resize",
        state=task_pb2.Task.SUCCEEDED,
        result=b"\xff",
        labels={"k": "v"},
    )
    message.create_time.FromDatetime(NOW)
    return _task.from_wire(message)


def written(form: str, capsys: pytest.CaptureFixture[str]) -> str:
    output.write([a_task()], columns=tasks.COLUMNS, form=form, name=lambda task: task.name)
    return capsys.readouterr().out


def test_json_and_yaml_say_everything(capsys: pytest.CaptureFixture[str]) -> None:
    as_json = json.loads(written("json", capsys))
    assert as_json["create_time"] == "2026-01-02T03:04:05Z"
    assert as_json["state"] == "SUCCEEDED"
    assert as_json["result"] == "base64:/w=="
    assert as_json["labels"] == {"k": "v"}
    as_yaml = list(yaml.safe_load_all(written("yaml", capsys)))
    assert as_yaml == [as_json]


def test_table_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("name", capsys) == "namespaces/default/pools/demo/tasks/t1\n"
    head, row = written("table", capsys).splitlines()
    assert head.split()[:3] == ["TASK", "TYPE", "STATE"]
    # What looks like markup is text.
    assert row.split()[:3] == ["t1", "[bold]resize", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1.0, "0s"),
        (0.0024, "0s"),
        (0.25, "0.2s"),
        (9.5, "9.5s"),
        (42.0, "42s"),
        (200.0, "3m20s"),
        (1800.0, "30m"),
        (7200.0, "2h"),
        (200_000.0, "2d"),
    ],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert output.span(seconds) == text


def test_the_reference_page_is_fresh() -> None:
    script = ROOT / "hack" / "gen_cli_reference.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_its_libraries_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None\nfrom penstock import cli\nsys.exit(cli.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("penstock: the command line needs click: pip install 'penstock[cli]'\n")
