"""The Deployment that is made of a pool: the user's template, and what the operator adds."""

import copy
import dataclasses
from typing import Any

import pytest

from penstock_operator import observed, resources, spec

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "maps"}},
    "spec": {
        "containers": [
            {"name": "side", "image": "example/side"},
            {"name": "worker", "image": "example/worker", "env": [{"name": "MODE", "value": "x"}]},
        ],
    },
}
POOL = spec.WorkerPoolSpec(
    namespace="prod",
    name="tiles",
    uid="uid-1",
    generation=3,
    template=TEMPLATE,
    slots_per_worker=2,
    drain_timeout_seconds=90,
)
SETTINGS = resources.WorkerSettings(address="penstock-dispatcher:50051")


def built(pool: spec.WorkerPoolSpec = POOL, **changes: Any) -> dict[str, Any]:
    settings = dataclasses.replace(SETTINGS, **changes)
    return resources.build_deployment(pool, replicas=4, settings=settings)


def containers(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in body["spec"]["template"]["spec"]["containers"]}


def test_names_labels_and_owner() -> None:
    body = built()
    revision = resources.revision_hash(POOL)
    assert body["metadata"]["name"] == f"tiles-{revision}"
    assert body["spec"]["replicas"] == 4
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "uid-1",
        True,
        False,
    )
    labels = body["spec"]["template"]["metadata"]["labels"]
    selected = body["spec"]["selector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert labels["team"] == "maps"
    assert labels["penstock.dev/pool"] == "tiles"
    assert labels["penstock.dev/revision"] == revision


def test_the_worker_is_told_where_it_belongs() -> None:
    worker, side = containers(built())["worker"], containers(built())["side"]
    told = {each["name"]: each.get("value") for each in worker["env"]}
    assert told["MODE"] == "x"
    assert told["PENSTOCK_ADDRESS"] == "penstock-dispatcher:50051"
    assert told["PENSTOCK_POOL"] == "namespaces/prod/pools/tiles"
    assert (told["PENSTOCK_SLOTS"], told["PENSTOCK_DRAIN_TIMEOUT_SECONDS"]) == ("2", "90")
    assert {"PENSTOCK_POD_NAME", "PENSTOCK_POD_UID", "PENSTOCK_TOKEN_FILE"} <= set(told)
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "env" not in side
    assert "readinessProbe" not in side


def test_the_token_is_mounted_read_only_or_not_at_all() -> None:
    pod = built()["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    (mount,) = containers(built())["worker"]["volumeMounts"]
    assert volume["secret"] == {"secretName": "penstock-worker"}
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    without = built(token_secret="")
    assert "volumes" not in without["spec"]["template"]["spec"]
    assert "volumeMounts" not in containers(without)["worker"]


def test_a_pod_may_finish_what_it_runs_and_has_no_rights() -> None:
    pod = built()["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 90 + resources.TERMINATION_MARGIN_SECONDS
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize(
    ("pod", "container", "shown"),
    [
        ({"runAsUser": 1000}, {}, {"runAsUser": 1000, "runAsNonRoot": True}),
        ({"runAsUser": 0}, {}, {"runAsUser": 0}),
        ({"runAsNonRoot": False}, {}, {"runAsNonRoot": False}),
        ({}, {"runAsUser": 0, "runAsNonRoot": False}, {"runAsNonRoot": True}),
    ],
)
def test_a_pod_runs_as_root_only_if_the_user_says_so(
    pod: dict[str, Any], container: dict[str, Any], shown: dict[str, Any]
) -> None:
    written = copy.deepcopy(TEMPLATE)
    written["spec"]["securityContext"] = pod
    written["spec"]["containers"][1]["securityContext"] = {
        key: value for key, value in container.items() if key == "runAsUser"
    }
    body = built(dataclasses.replace(POOL, template=written))
    found = body["spec"]["template"]["spec"]["securityContext"]
    assert {key: value for key, value in found.items() if key != "seccompProfile"} == shown
    mine = containers(body)["worker"]["securityContext"]
    assert {key: mine.get(key) for key in container} == container


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ({"add": ["NET_BIND_SERVICE"]}, {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}),
        ({"drop": ["NET_RAW"]}, {"drop": ["NET_RAW"]}),
        (None, {"drop": ["ALL"]}),
    ],
)
def test_capabilities_that_are_added_do_not_bring_the_others_back(
    wanted: dict[str, Any] | None, shown: dict[str, Any]
) -> None:
    written = copy.deepcopy(TEMPLATE)
    written["spec"]["containers"][1]["securityContext"] = {"capabilities": wanted}
    body = built(dataclasses.replace(POOL, template=written))
    assert containers(body)["worker"]["securityContext"]["capabilities"] == shown


def test_what_the_user_wrote_wins_and_is_not_touched() -> None:
    written = copy.deepcopy(TEMPLATE)
    written["spec"]["securityContext"] = {"runAsUser": 0}
    written["spec"]["containers"][1]["livenessProbe"] = {"exec": {"command": ["true"]}}
    before = copy.deepcopy(written)
    body = built(dataclasses.replace(POOL, template=written))
    assert "runAsNonRoot" not in body["spec"]["template"]["spec"]["securityContext"]
    assert containers(body)["worker"]["livenessProbe"] == {"exec": {"command": ["true"]}}
    assert written == before


@pytest.mark.parametrize(
    ("changes", "rolls"),
    [
        ({"slots_per_worker": 3}, True),
        ({"drain_timeout_seconds": 5}, True),
        ({"worker_container": "side"}, True),
        ({"template": {**TEMPLATE, "metadata": {}}}, True),
        ({"generation": 4}, False),
        ({"suspend": True}, False),
        ({"uid": "uid-2"}, False),
    ],
)
def test_only_what_shapes_the_pod_makes_a_new_revision(
    changes: dict[str, Any], rolls: bool
) -> None:
    other = resources.revision_hash(dataclasses.replace(POOL, **changes))
    assert (other != resources.revision_hash(POOL)) is rolls


def test_the_operators_own_settings_roll_nothing() -> None:
    assert built(address="elsewhere:1")["metadata"]["name"] == built()["metadata"]["name"]


def deployed(**changes: Any) -> observed.Deployment:
    body = built(**changes)
    body["metadata"] |= {"uid": "d", "resourceVersion": "1"}
    return observed.deployment_of(body)


def test_another_address_of_the_dispatcher_makes_a_revision_and_nothing_else_does() -> None:
    def current(*there: observed.Deployment, address: str = SETTINGS.address) -> str:
        return resources.current_revision(POOL, deployments=there, address=address)

    first = deployed()
    assert first.address == SETTINGS.address
    plain = resources.revision_hash(POOL)
    assert current() == current(first) == current(first, address="") == plain
    assert current(deployed(token_secret="other")) == plain
    moved = current(first, address="new:1")
    assert moved != plain
    # It stays the current one when the old Deployment has gone, and until the address is back.
    second = dataclasses.replace(deployed(address="new:1"), revision=moved)
    assert current(first, second, address="new:1") == current(second, address="new:1") == moved
    assert current(first, second) == plain
    assert current(second) not in ("", moved)


def test_the_moved_revision_is_told_its_own_name() -> None:
    body = resources.build_deployment(POOL, replicas=1, settings=SETTINGS, revision="moved")
    assert body["metadata"]["name"] == "tiles-moved"
    told = {each["name"]: each.get("value") for each in containers(body)["worker"]["env"]}
    assert told["PENSTOCK_REVISION"] == "moved"
