"""The public surface is what it says it is, the same in both clients, and light."""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import penstock

PUBLIC = {
    "Admission",
    "AdmissionTimeout",
    "Bulk",
    "Client",
    "Outcome",
    "Payload",
    "PenstockError",
    "PoolInfo",
    "PoolState",
    "Purge",
    "QueueFull",
    "Restore",
    "Retry",
    "RetryPolicy",
    "Submission",
    "SubmitOptions",
    "SyncClient",
    "Task",
    "TaskChange",
    "TaskError",
    "TaskFailed",
    "TaskFailure",
    "TaskState",
    "TooManyWaiters",
    "WaitTimeout",
    "WorkerInfo",
    "WorkerState",
    "errors",
    "json_payload",
}
VERBS = {
    "cancel",
    "cancel_many",
    "close",
    "delete",
    "drain",
    "get",
    "list",
    "pause",
    "pool",
    "pools",
    "purge",
    "restore",
    "result",
    "resume",
    "retry",
    "retry_many",
    "submit",
    "submit_many",
    "undrain",
    "update",
    "wait",
    "watch",
    "workers",
}


def test_exactly_these_names_are_exported_and_there() -> None:
    assert set(penstock.__all__) == PUBLIC
    assert all(hasattr(penstock, name) for name in PUBLIC)


def test_errors_exports_all_its_classes_and_tables() -> None:
    errors = penstock.errors
    there = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert set(errors.__all__) == there | {"REASONS", "CODES"}


def test_nothing_else_in_the_package_is_public() -> None:
    modules = {module.name for module in pkgutil.iter_modules(penstock.__path__)}
    assert {name for name in modules if not name.startswith("_")} == {
        "cli",
        "errors",
        "testing",
        "v1",
    }


@pytest.mark.parametrize("client", [penstock.Client, penstock.SyncClient])
def test_a_client_has_exactly_these_verbs(client: type) -> None:
    names = {name for part in client.__mro__[:-1] for name in vars(part)}
    assert {name for name in names if not name.startswith("_")} == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS | {"__init__"}))
def test_both_clients_take_the_same_arguments(verb: str) -> None:
    def arguments(client: type) -> list[tuple[str, object, object]]:
        parameters = inspect.signature(getattr(client, verb)).parameters
        return [(each.name, each.kind, each.default) for each in parameters.values()]

    assert arguments(penstock.Client) == arguments(penstock.SyncClient)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_says_what_it_does_in_both(verb: str) -> None:
    for client in (penstock.Client, penstock.SyncClient):
        assert inspect.getdoc(getattr(client, verb))


def test_values_are_frozen_and_slotted() -> None:
    for kind in (
        penstock.Task,
        penstock.TaskFailure,
        penstock.TaskChange,
        penstock.PoolInfo,
        penstock.WorkerInfo,
        penstock.Purge,
        penstock.Bulk,
        penstock.Restore,
        penstock.Submission,
        penstock.Outcome,
        penstock.Payload,
        penstock.Retry,
        penstock.RetryPolicy,
    ):
        assert kind.__dataclass_params__.frozen  # type: ignore[union-attr]
        assert "__slots__" in vars(kind)


def test_importing_penstock_brings_in_grpc_and_protobuf_only() -> None:
    program = (
        "import sys, penstock; "
        "heavy = {'click', 'rich', 'yaml', 'aiohttp', 'kopf', 'kubernetes', 'sqlite3',"
        " 'penstock.cli', 'penstock_worker', 'penstock_dispatcher', 'penstock_operator'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_client_is_two_ideas() -> None:
    root = pathlib.Path(importlib.import_module("penstock").__path__[0])
    for path in root.rglob("*.py"):
        if "v1" not in path.parts:
            assert len(path.read_text().splitlines()) <= 400, path
