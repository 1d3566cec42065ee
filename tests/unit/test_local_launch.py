"""What a manifest's container is as a process on this machine."""

from typing import Any

import pytest

from penstock_operator import fields, spec
from penstock_operator.local import launch

PYTHON = "/usr/bin/python3"


def pool(container: dict[str, Any], **more: Any) -> spec.WorkerPoolSpec:
    containers = [{"name": "log", "image": "i"}, {"name": "worker", "image": "i", **container}]
    document = {
        "apiVersion": spec.API_VERSION,
        "kind": spec.KIND,
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"template": {"spec": {"containers": containers, **more}}},
    }
    return spec.parse_manifest(document)


def made(container: dict[str, Any], **surroundings: str) -> launch.Launch:
    return launch.launch_of(pool(container), surroundings=surroundings, python=PYTHON)


def environment(of: launch.Launch) -> dict[str, str]:
    return of.environment(address="127.0.0.1:1", pod_name="p-r-1", pod_uid="u1")


@pytest.mark.parametrize(
    ("container", "arguments"),
    [
        ({"args": ["h:worker"]}, [PYTHON, "-P", "-m", "penstock_worker", "h:worker"]),
        (
            {"command": ["/opt/bin/penstock-worker"], "args": ["exec", "--", "./run"]},
            [PYTHON, "-P", "-m", "penstock_worker", "exec", "--", "./run"],
        ),
        ({"command": ["python3.12", "-m", "mine"]}, [PYTHON, "-m", "mine"]),
        ({"command": ["./serve"], "args": ["-v"]}, ["./serve", "-v"]),
        (
            {"args": ["$(APP)", "$$(APP)", "$(NOBODY)"], "env": [{"name": "APP", "value": "h"}]},
            [PYTHON, "-P", "-m", "penstock_worker", "h", "$(APP)", "$(NOBODY)"],
        ),
        (
            {"env": [{"name": "PENSTOCK_APP", "value": "h:worker"}]},
            [PYTHON, "-P", "-m", "penstock_worker"],
        ),
    ],
)
def test_the_program(container: dict[str, Any], arguments: list[str]) -> None:
    one = made(container)
    assert one.arguments(environment(one)) == arguments


def test_the_environment() -> None:
    variables = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2"},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "EMPTY"},
    ]
    one = made({"args": ["h"], "env": variables}, SECRET="s", HOME="/h", PENSTOCK_TOKEN_FILE="/t")
    found = environment(one)
    shown = {name: found[name] for name in ("A", "B", "ME", "SECRET", "EMPTY", "HOME")}
    assert shown == {"A": "1", "B": "12", "ME": "p-r-1", "SECRET": "s", "EMPTY": "", "HOME": "/h"}
    assert found["PENSTOCK_POOL"] == "namespaces/n/pools/p"
    assert found["PENSTOCK_ADDRESS"] == "127.0.0.1:1"
    assert (found["PENSTOCK_POD_NAME"], found["PENSTOCK_POD_UID"]) == ("p-r-1", "u1")
    # Of another fleet, or of a cluster that this shell talks to.
    assert "PENSTOCK_TOKEN_FILE" not in found
    assert "PENSTOCK_HTTP_PORT" not in found


@pytest.mark.parametrize(
    ("container", "field", "remedy"),
    [
        ({}, "spec.template.spec.containers[1].args", 'args: ["handlers:worker"]'),
        (
            {
                "args": ["h"],
                "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
            },
            "spec.template.spec.containers[1].env[K].valueFrom",
            "set the variable K",
        ),
    ],
)
def test_what_cannot_be_started_names_the_field(
    container: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(fields.InvalidManifest) as refused:
        made(container)
    [violation] = refused.value.violations
    assert violation.field == field
    assert remedy in str(violation)


def test_an_optional_variable_may_be_missing() -> None:
    optional = {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}
    one = made({"args": ["h"], "env": [{"name": "K", "valueFrom": optional}]})
    assert "K" not in environment(one)


def test_what_has_no_part_here_is_said() -> None:
    one = made({"args": ["h"], "envFrom": [{"secretRef": {"name": "s"}}]})
    assert [note for note in one.notes if "log" in note]
    assert [note for note in one.notes if "envFrom" in note]
