"""The chart and the programs it runs agree: rights, flags, variables, what templates may do."""

import ast
import pathlib
import re
import shlex
from collections.abc import Callable
from typing import Any

from penstock.cli import submitting
from penstock_dispatcher import __main__ as dispatcher_main
from penstock_operator import settings as operator_settings
from penstock_operator import template as pod_template

ROOT = pathlib.Path(__file__).resolve().parents[2]
Render = Callable[..., list[dict[str, Any]]]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def container_of(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [item] = of_kind(objects, kind)
    container: dict[str, Any] = item["spec"]["template"]["spec"]["containers"][0]
    return container


def granted(rules: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """(API group, resource) → verbs."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_the_operators_roles_are_what_its_code_lists(rendered: Render) -> None:
    # The table stands at the top of the one module that speaks to Kubernetes.
    source = ROOT / "operator" / "penstock_operator" / "cluster.py"
    prose = ast.get_docstring(ast.parse(source.read_text())) or ""
    served, own = prose.split("in the operator's own namespace")
    listed = []
    for part in (served, own):
        rows = re.findall(r"^ +(\S+) +([a-z/]+) {2,}([a-z, ]+)$", part, re.MULTILINE)
        listed.append(
            {
                ("" if group == "(core)" else group, resource): set(verbs.split(", "))
                for group, resource, verbs in rows
            }
        )
    roles = {item["metadata"]["name"]: item["rules"] for item in of_kind(rendered(), "Role")}
    assert granted(roles["penstock-operator"]) == listed[0]
    assert granted(roles["penstock-operator-lease"]) == listed[1]
    assert len(listed[0]) == 7


def test_the_operator_only_touches_its_own_leases(rendered: Render) -> None:
    objects = rendered({"fullnameOverride": "water"})
    env = container_of(objects, "Deployment")["env"]
    lease = {entry["name"]: entry.get("value") for entry in env}["PENSTOCK_LEASE_NAME"]
    names = set()
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            if rule["resources"] == ["leases"] and {"get", "update"} & {*rule["verbs"]}:
                names |= {*rule["resourceNames"]}
    assert names == {lease, "penstock-operator-watch"}


def test_what_templates_may_do_reaches_the_operator_and_the_api_server(rendered: Render) -> None:
    def told(values: dict[str, Any]) -> tuple[dict[str, Any], int]:
        objects = rendered(values)
        [policy] = of_kind(objects, "ValidatingAdmissionPolicy")
        env = container_of(objects, "Deployment")["env"]
        return {e["name"]: e.get("value") for e in env}, len(policy["spec"]["validations"])

    strict, rules = told({})
    assert strict["PENSTOCK_TEMPLATE_ALLOW"] == ""
    assert strict["PENSTOCK_TEMPLATE_SERVICE_ACCOUNTS"] == "default"
    assert strict["PENSTOCK_PROTECTED_SECRETS"] == "penstock-auth"
    everything = sorted(pod_template.ALLOWABLE)
    loose, fewer = told({"podTemplates": {"allow": everything, "serviceAccounts": ["builder"]}})
    assert loose["PENSTOCK_TEMPLATE_ALLOW"] == ",".join(everything)
    assert loose["PENSTOCK_TEMPLATE_SERVICE_ACCOUNTS"] == "default,builder"
    # Every word switches one rule off; what is left is the list of service accounts.
    assert (rules, fewer) == (len(everything) + 1, 1)


def test_the_programs_know_the_flags_and_variables_they_are_given(rendered: Render) -> None:
    objects = rendered()
    dispatcher, operator = (container_of(objects, k) for k in ("StatefulSet", "Deployment"))
    settings, level = dispatcher_main.settings_from(dispatcher["args"])
    assert (str(settings.data), level) == ("/var/lib/penstock", "info")
    assert str(settings.auth_file) == "/etc/penstock/auth/auth.json"
    assert settings.listen.endswith(":50051")
    environment = {e["name"]: e.get("value", "from-pod") for e in operator["env"]}
    read = operator_settings.read([], environment)
    assert read.namespaces == ("system",)
    assert read.operator_namespace == read.operator_id == "from-pod"
    assert read.workers.address == read.dispatcher_address == "penstock-dispatcher.system.svc:50051"
    assert read.lease_name == "penstock-operator"
    assert read.http_port == operator["ports"][0]["containerPort"]
    assert read.security.protected_secrets == {"penstock-auth"}
    source = (ROOT / "operator" / "penstock_operator" / "settings.py").read_text()
    assert [name for name in environment if f'"{name}"' not in source] == []


def test_what_the_notes_tell_people_to_submit_is_a_command() -> None:
    notes = (ROOT / "charts" / "penstock" / "templates" / "NOTES.txt").read_text()
    (line,) = re.findall(r"^ *penstock submit (.+)$", notes, re.MULTILINE)
    context = submitting.submit.make_context("submit", shlex.split(line))
    assert (context.params["task_type"], context.params["text"]) == ("sleep", "1")
