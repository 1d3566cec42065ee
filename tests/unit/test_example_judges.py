"""The drivers of examples 02, 03 and 06 find the mistakes they look for; their handlers, called."""

import dataclasses
import datetime as dt
import importlib.util
import pathlib
import sys
from types import ModuleType

import pytest

import penstock
import penstock.testing
from penstock import _task
from penstock.v1 import task_pb2

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def load(example: str, name: str) -> ModuleType:
    path = EXAMPLES / example / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{example[:2]}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


priority = load("02-priority", "driver")
rate = load("03-rate-limited", "driver")
tenants = load("06-fair-tenants", "driver")


def task(number: int, *, at: float, priority: int = 0) -> penstock.Task:
    message = task_pb2.Task(
        name=f"namespaces/default/pools/demo/tasks/t{number}",
        state=task_pb2.Task.SUCCEEDED,
        priority=priority,
    )
    message.start_time.FromDatetime(BEGIN + dt.timedelta(seconds=at))
    return _task.from_wire(message)


@pytest.mark.parametrize(
    ("starts", "good"),
    [
        ([0.5, 0.2, 0.4, 0.0, 0.3, 0.1, 0.6], True),
        ([0.5, 0.1, 0.4, 0.1, 0.3, 0.1, 0.6], True),  # three at one moment
        ([0.6, 0.2, 0.4, 0.0, 0.3, 0.1, 0.5], False),  # the later one of two equals first
        ([0.5, 0.1, 0.4, 0.0, 0.3, 0.2, 0.6], False),
    ],
)
def test_order_is_judged(starts: list[float], good: bool) -> None:
    tasks = [
        task(number, at=at, priority=value)
        for number, (at, value) in enumerate(zip(starts, priority.PRIORITIES, strict=True))
    ]
    assert (priority.judge(tasks) == 0) is good


def test_a_task_that_failed_is_a_mistake() -> None:
    tasks = [
        task(number, at=-value, priority=value) for number, value in enumerate(priority.PRIORITIES)
    ]
    tasks[0] = dataclasses.replace(tasks[0], state=penstock.TaskState.FAILED)
    assert priority.judge(tasks) == 1


@pytest.mark.parametrize(
    ("starts", "mistakes"),
    [
        ([0.0, 0.0, 0.0, 0.1, 0.2, 0.3], 0),
        ([0.0, 0.0, 0.0, 0.099_999, 0.2], 0),  # a cut microsecond
        ([0.0, 0.0, 0.0, 0.09], 1),
        ([0.0, 0.0, 0.0, 0.0], 1),
        ([0.0, 1.0, 1.0, 1.0, 1.05], 1),
    ],
)
def test_every_window_is_judged(starts: list[float], mistakes: int) -> None:
    assert len(rate.windows(starts)) == mistakes


def test_handlers() -> None:
    assert load("02-priority", "handlers").sleep(penstock.testing.task("0.01")) == "slept 0.01 s"
    assert load("03-rate-limited", "handlers").call(penstock.testing.task("7")) == b"7"
    assert load("04-backpressure", "handlers").double(penstock.testing.task("7")) == 14


@pytest.mark.parametrize("example", ["02-priority", "03-rate-limited", "04-backpressure"])
def test_a_readme_has_ten_lines_at_most(example: str) -> None:
    assert len((EXAMPLES / example / "README.md").read_text().splitlines()) <= 11


def tenant_task(number: int, tenant: str, *, at: float, seconds: float = 0.5) -> penstock.Task:
    message = task_pb2.Task(
        name=f"namespaces/default/pools/demo/tasks/t{number}",
        state=task_pb2.Task.SUCCEEDED,
        fairness_key=tenant,
    )
    message.start_time.FromDatetime(BEGIN + dt.timedelta(seconds=at))
    message.end_time.FromDatetime(BEGIN + dt.timedelta(seconds=at + seconds))
    return _task.from_wire(message)


def test_shares_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    fair = ("gold", "silver", "gold", "bronze", "silver", "gold") * 12
    tasks = [tenant_task(number, tenant, at=number) for number, tenant in enumerate(fair)]
    assert tenants.shares(tasks) == []
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        ["gold", "3", "18", "18"],
        ["silver", "2", "12", "12"],
        ["bronze", "1", "6", "6"],
    ]
    first_come = sorted(fair, key=list(tenants.WEIGHTS).index)
    tasks = [tenant_task(number, tenant, at=number) for number, tenant in enumerate(first_come)]
    wrong = tenants.shares(tasks)
    assert [each.split()[0] for each in wrong] == ["gold", "silver", "bronze"]


@pytest.mark.parametrize(
    ("starts", "mistakes"),
    [
        ([0.0, 0.0, 0.0, 0.125, 0.25], 0),
        ([0.0, 0.0, 0.0, 0.12], 1),
        ([0.0, 0.0, 0.0, 0.0], 1),
    ],
)
def test_the_rate_of_one_tenant_is_judged(starts: list[float], mistakes: int) -> None:
    tasks = [tenant_task(number, "gold", at=at) for number, at in enumerate(starts)]
    assert len(tenants.windows(tasks)) == mistakes


@pytest.mark.parametrize(
    ("starts", "mistakes"),
    [([0.0, 0.0, 0.5, 0.5], 0), ([0.0, 0.2, 0.5, 0.7], 0), ([0.0, 0.1, 0.4], 1)],
)
def test_what_works_on_one_thing_at_once_is_judged(starts: list[float], mistakes: int) -> None:
    tasks = [tenant_task(number, "gold", at=at) for number, at in enumerate(starts)]
    assert len(tenants.at_once(tasks)) == mistakes
