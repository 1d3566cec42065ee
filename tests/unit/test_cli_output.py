"""Values as people and programs want them; the reference page; a missing library."""

import datetime as dt
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from penstock import _pools, _task
from penstock.cli import output, overview, tasks
from penstock.v1 import pool_service_pb2, task_pb2

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


def test_a_long_table_comes_in_parts_with_one_head(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = 0

    def endless() -> Iterator[_task.Task]:
        nonlocal drawn
        for number in range(2 * output.ROWS_PER_TABLE_MAX + 1):
            drawn = number + 1
            yield a_task()

    output.write(endless(), columns=tasks.COLUMNS, form="table", name=lambda task: task.name)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == drawn + 1 == 2 * output.ROWS_PER_TABLE_MAX + 2
    assert [line for line in lines if line.startswith("TASK")] == [lines[0]]


def test_an_empty_table_has_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    output.write([], columns=tasks.COLUMNS, form="table", name=lambda task: task.name)
    assert capsys.readouterr().out.split()[0] == "TASK"


def test_queues_by_priority_are_short() -> None:
    def shown(counts: dict[int, int]) -> str:
        message = pool_service_pb2.Pool(name="namespaces/default/pools/demo")
        message.stats.pending_by_priority.update(counts)
        return overview.by_priority(_pools.pool_from_wire(message))

    assert shown({}) == "-"
    assert shown({-3: 1, 10: 2}) == "10:2 -3:1"
    assert shown(dict.fromkeys(range(7), 1)) == "6:1 5:1 4:1 3:1 +3 more"


def test_a_cause_is_one_line_and_cut() -> None:
    message = task_pb2.Task(name="namespaces/default/pools/demo/tasks/t1")
    message.error.message = "line\nline " + "x" * 1_000
    (column,) = [each for each in tasks.DEAD_LETTERS if each.title == "CAUSE"]
    shown = column.show(_task.from_wire(message))
    assert shown.startswith(": line line xxx")
    assert len(shown) == tasks.CAUSE_CHARACTERS_MAX


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
