"""What the chart renders: valid, hardened, and as little power as the operator needs."""

import base64
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "penstock"
SCHEMAS = ROOT / "tests" / "chart" / "schemas"
Render = Callable[..., list[dict[str, Any]]]

VALUES: dict[str, dict[str, Any]] = {
    "none": {},
    "two namespaces": {"namespaces": ["team-a", "team-b"], "auth": {"clients": "token"}},
    "no volume": {"dispatcher": {"persistence": {"enabled": False}}},
    "everything": {
        "fullnameOverride": "water",
        "commonLabels": {"team": "platform"},
        "crds": {"keep": False},
        "image": {
            "registry": "registry.example/penstock/",
            "tag": "1.2.3",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "registry"}],
        },
        "dispatcher": {
            "image": {"tag": "1.2.4"},
            "extraArgs": ["--log-json"],
            "extraEnv": [{"name": "A", "value": "b"}],
            "persistence": {"storageClass": "fast", "size": "20Gi", "whenDeleted": "Delete"},
            "service": {"type": "NodePort", "nodePort": 30051, "annotations": {"a": "b"}},
            "podDisruptionBudget": True,
            "podLabels": {"k": "v"},
            "podAnnotations": {"k": "v"},
            "priorityClassName": "high",
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
        },
        "operator": {
            "workerAddress": "penstock.example:50051",
            "extraArgs": ["--log-json"],
            "extraEnv": [{"name": "A", "value": "b"}],
            "podLabels": {"k": "v"},
            "podAnnotations": {"k": "v"},
            "priorityClassName": "high",
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
        },
        "podTemplates": {
            "serviceAccounts": ["builder"],
            "allow": ["hostPath", "serviceAccountToken"],
        },
        "rbac": {"aggregateToUserRoles": True},
        "serviceAccounts": {"annotations": {"a": "b"}},
        "networkPolicy": {
            "grpcFrom": [{"namespaceSelector": {}}],
            "metricsFrom": [{"podSelector": {}}],
            "operatorEgress": [{"ports": [{"port": 443}]}],
        },
    },
    "as little as possible": {
        "crds": {"enabled": False},
        "auth": {"existingSecret": "mine"},
        "podTemplates": {"admissionPolicy": False},
        "rbac": {"create": False},
        "networkPolicy": {"enabled": False},
    },
}
each_values = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in objects:
        if item["kind"] in {"Deployment", "StatefulSet"}:
            yield (
                item["metadata"]["labels"]["app.kubernetes.io/component"],
                item["spec"]["template"],
            )


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


@each_values
def test_helm_lint_is_content(tools: Any, values: dict[str, Any]) -> None:
    done = tools.run("helm", "lint", "--strict", CHART, "-f", "-", stdin=yaml.safe_dump(values))
    assert done.returncode == 0, done.stdout + done.stderr


@each_values
def test_every_object_fits_the_api(tools: Any, template: Any, values: dict[str, Any]) -> None:
    done = tools.run(
        *("kubeconform", "-strict", "-summary", "-schema-location"),
        f"{SCHEMAS}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        stdin=template(values).stdout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", Skipped: 0" in done.stdout


@pytest.mark.parametrize("name", ["none", "two namespaces", "no volume"])
def test_kube_score_finds_nothing_critical(tools: Any, template: Any, name: str) -> None:
    done = tools.run(
        *("kube-score", "score", "-", "--output-format", "json"),
        # No CPU limit on purpose: it throttles exactly when there is work.
        *("--ignore-test", "container-resources", "--ignore-test", "container-image-pull-policy"),
        stdin=template(VALUES[name]).stdout,
    )
    assert done.stdout, done.stderr
    critical = [
        (item["object_name"], check["check"]["name"])
        for item in json.loads(done.stdout)
        for check in item["checks"] or []
        if check["grade"] == 1 and not check["skipped"]
    ]
    assert critical == []


@each_values
def test_pods_fit_the_level_restricted(rendered: Render, values: dict[str, Any]) -> None:
    seen = []
    for component, template in pods(rendered(values)):
        seen.append(component)
        pod = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "nodeName"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is (component == "operator")
        for volume in pod["volumes"]:
            assert volume.keys() & {"emptyDir", "secret", "persistentVolumeClaim"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            assert {"livenessProbe", "readinessProbe"} <= container.keys()
    assert sorted(seen) == ["dispatcher", "operator"]


def test_one_of_each_and_never_two_at_a_time(rendered: Render) -> None:
    objects = rendered()
    [deployment] = of_kind(objects, "Deployment")
    [stateful] = of_kind(objects, "StatefulSet")
    assert deployment["spec"]["replicas"] == stateful["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@each_values
def test_services_find_their_pods(rendered: Render, values: dict[str, Any]) -> None:
    objects = rendered(values)
    templates = [template for _, template in pods(objects)]
    services = of_kind(objects, "Service")
    assert len(services) == 3
    for service in services:
        wanted = service["spec"]["selector"].items()
        [template] = [t for t in templates if wanted <= t["metadata"]["labels"].items()]
        names = {p["name"] for c in template["spec"]["containers"] for p in c["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    [stateful] = of_kind(objects, "StatefulSet")
    headless = [s for s in services if s["spec"].get("clusterIP") == "None"]
    assert [s["metadata"]["name"] for s in headless] == [stateful["spec"]["serviceName"]]


def test_volume_or_empty_dir(rendered: Render) -> None:
    [kept] = of_kind(rendered(), "StatefulSet")
    [claim] = kept["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in claim["spec"], "the cluster's default class"
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    [lost] = of_kind(rendered(VALUES["no volume"]), "StatefulSet")
    assert "volumeClaimTemplates" not in lost["spec"]
    assert {"name": "journal", "emptyDir": {}} in lost["spec"]["template"]["spec"]["volumes"]


def test_namespaces_reach_the_operator_and_get_what_they_need(rendered: Render) -> None:
    for values, wanted in (({}, ["system"]), (VALUES["two namespaces"], ["team-a", "team-b"])):
        objects = rendered(values)
        [deployment] = of_kind(objects, "Deployment")
        environment = {
            entry["name"]: entry.get("value")
            for entry in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        assert environment["PENSTOCK_NAMESPACES"] == ",".join(wanted)
        assert environment["PENSTOCK_DISPATCHER_ADDRESS"] == "penstock-dispatcher.system.svc:50051"
        for kind, name in (
            ("Role", "penstock-operator"),
            ("RoleBinding", "penstock-operator"),
            ("Secret", "penstock-worker"),
        ):
            where = [
                item["metadata"]["namespace"]
                for item in of_kind(objects, kind)
                if item["metadata"]["name"] == name
            ]
            assert where == wanted, kind
        [binding] = of_kind(objects, "ValidatingAdmissionPolicyBinding")
        [expression] = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert expression["values"] == wanted


@each_values
def test_tokens_agree(rendered: Render, values: dict[str, Any]) -> None:
    secrets = {
        (item["metadata"]["namespace"], item["metadata"]["name"]): {
            key: base64.b64decode(value).decode() for key, value in item["data"].items()
        }
        for item in of_kind(rendered(values), "Secret")
    }
    if values.get("auth", {}).get("existingSecret"):
        assert secrets == {}
        return
    [auth] = [data for (_, name), data in secrets.items() if name.endswith("-auth")]
    table = json.loads(auth["auth.json"])
    assert table["clients"] == values.get("auth", {}).get("clients", "open")
    entries = {entry["name"]: entry for entry in table["tokens"]}
    assert entries["operator"]["role"] == "fleet"
    assert entries["client"] == {
        "name": "client",
        "role": "submit",
        "namespaces": ["*"],
        "token": auth["client"],
    }
    assert entries["admin"]["role"] == "admin"
    for name in ("operator", "client", "admin"):
        assert entries[name]["token"] == auth[name]
    for namespace in values.get("namespaces", ["system"]):
        entry = entries[f"worker-{namespace}"]
        assert (entry["role"], entry["namespaces"]) == ("work", [namespace])
        assert entry["token"] == secrets[namespace, "penstock-worker"]["token"]
    tokens = [entry["token"] for entry in table["tokens"]]
    assert len(set(tokens)) == len(tokens)
    assert all(re.fullmatch(r"[A-Za-z0-9]{43}", token) for token in tokens)


@each_values
def test_the_operator_can_do_nothing_broad(rendered: Render, values: dict[str, Any]) -> None:
    objects = rendered(values)
    for role in of_kind(objects, "Role") + of_kind(objects, "ClusterRole"):
        for rule in role["rules"]:
            flat = rule["apiGroups"] + rule["resources"] + rule["verbs"]
            assert "*" not in flat
            assert not {"secrets", "pods/exec", "serviceaccounts/token"} & {*rule["resources"]}
            assert not {"escalate", "bind", "impersonate"} & {*rule["verbs"]}
            if "pods" in rule["resources"]:
                assert {*rule["verbs"]} <= {"get", "list", "watch", "patch"}
    assert of_kind(objects, "ClusterRoleBinding") == []
    bound = {binding["roleRef"]["kind"] for binding in of_kind(objects, "RoleBinding")}
    assert bound <= {"Role"}
    if not values.get("rbac", {}).get("aggregateToUserRoles"):
        assert of_kind(objects, "ClusterRole") == []


def test_names_fit_whatever_the_release_is_called(tools: Any) -> None:
    done = tools.run(
        *("helm", "template", "r" * 53, CHART, "--namespace", "n" * 63),
        *("--kube-version", "1.36.3", "--set", "rbac.aggregateToUserRoles=true"),
    )
    assert done.returncode == 0, done.stderr
    for item in yaml.safe_load_all(done.stdout):
        name = item["metadata"]["name"]
        # A StatefulSet's pods carry its name and a hash in a label; Services are DNS labels.
        limit = {"Service": 63, "StatefulSet": 52}.get(item["kind"], 253)
        assert len(name) <= limit, name
        assert all(len(str(v)) <= 63 for v in item["metadata"].get("labels", {}).values())


def test_notes_warn_of_an_open_door(tools: Any, tmp_path: pathlib.Path) -> None:
    # Helm shows the notes only after an install: here they are rendered into an object.
    chart = tmp_path / "penstock"
    shutil.copytree(CHART, chart)
    text = (chart / "templates/NOTES.txt").read_text()
    (chart / "templates/_notes.tpl").write_text(f'{{{{ define "notes" }}}}{text}{{{{ end }}}}')
    (chart / "templates/shown.yaml").write_text(
        'kind: Shown\nmetadata: {name: notes}\ntext: {{ include "notes" . | quote }}\n'
    )

    def notes(*arguments: str) -> str:
        done = tools.run(
            *("helm", "template", "penstock", chart, "--namespace", "system"),
            *("--kube-version", "1.36.3", "--show-only", "templates/shown.yaml"),
            *arguments,
        )
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["text"])

    plain = notes()
    assert "kubectl -n system rollout status statefulset/penstock-dispatcher" in plain
    assert "WARNING" not in plain
    assert "PENSTOCK_TOKEN" not in plain
    assert "auth.clients=token" in notes("--set", "dispatcher.service.type=LoadBalancer")
    assert "PENSTOCK_TOKEN" in notes("--set", "auth.clients=token")
    assert "lost with" in notes("--set", "dispatcher.persistence.enabled=false")
    assert "kubectl apply -f" in notes("--set", "crds.enabled=false")
