"""The WorkerPool resource: documented, small, and what the operator reads without an API server."""

import copy
import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from penstock_operator import fields, sections, spec

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINIMAL: dict[str, Any] = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool", "namespace": "team", "uid": "u-1", "generation": 1},
    "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}}},
}


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below a schema, with its path."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from walk(field, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield f"{path}[]", schema["items"]
        yield from walk(schema["items"], f"{path}[]")


def with_field(path: str, value: object) -> dict[str, Any]:
    """The minimal manifest with one more field, and what that field cannot do without."""
    manifest = copy.deepcopy(MINIMAL)
    target = manifest["spec"]
    names = path.removeprefix(".spec.").split(".")
    for name in names[:-1]:
        target = target.setdefault(name, {})
    target[names[-1]] = value
    if path.startswith(".spec.rateLimit."):
        manifest["spec"]["rateLimit"] = {
            "tasks": 1,
            "periodSeconds": 1,
            **manifest["spec"]["rateLimit"],
        }
    return manifest


def as_the_api_server_fills_it(manifest: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Defaulting as an API server does it: absent fields first, then into every value."""

    def fill(value: object, node: dict[str, Any]) -> None:
        if isinstance(value, dict):
            for name, field in node.get("properties", {}).items():
                if name not in value and "default" in field:
                    value[name] = copy.deepcopy(field["default"])
                if name in value:
                    fill(value[name], field)

    filled = copy.deepcopy(manifest)
    fill(filled, schema)
    return filled


def test_every_field_has_a_description(schema: dict[str, Any]) -> None:
    bare = [path for path, field in walk(schema) if len(field.get("description", "")) < 10]
    assert bare == []
    assert len(list(walk(schema))) > 70


def test_it_stays_far_below_what_kubectl_apply_can_carry(definition: dict[str, Any]) -> None:
    # The whole object goes into an annotation of at most 256 KiB.
    source = ROOT / "charts/penstock/files/workerpools.penstock.dev.yaml"
    assert source.stat().st_size < 64 * 1024


def test_every_number_is_bounded_and_every_text_too(schema: dict[str, Any]) -> None:
    loose = []
    for path, field in walk(schema["properties"]["spec"], ".spec"):
        if field.get("type") == "integer" and not {"minimum", "maximum", "format"} <= field.keys():
            loose.append(path)
        if field.get("type") == "string" and not {"enum", "maxLength"} & field.keys():
            loose.append(path)
        if field.get("type") == "array" and "maxItems" not in field:
            loose.append(path)
    assert loose == []


def test_rules_name_the_field_and_the_remedy(schema: dict[str, Any]) -> None:
    messages = [
        rule["message"]
        for node in [schema, *(field for _, field in walk(schema))]
        for rule in node.get("x-kubernetes-validations", [])
    ]
    assert len(messages) >= 14
    for message in messages:
        assert message.startswith(("spec.", "metadata.name")), message
        assert ":" in message, f"no remedy after a colon: {message}"


def test_an_object_with_rules_or_defaults_inside_has_them_in_its_own_default(
    schema: dict[str, Any],
) -> None:
    # Else the API server refuses the CRD: defaults are checked before nested ones are filled in.
    for path, field in walk(schema["properties"]["spec"], ".spec"):
        if "default" in field and field.get("type") == "object":
            read = " ".join(rule["rule"] for rule in field.get("x-kubernetes-validations", []))
            for name, inner in field["properties"].items():
                if f"self.{name}" in read and "default" in inner:
                    assert field["default"].get(name) == inner["default"], f"{path}.{name}"
            for name, value in field["default"].items():
                assert field["properties"][name]["default"] == value, f"{path}.{name}"


def test_printer_columns_read_fields_that_exist(definition: dict[str, Any]) -> None:
    version = definition["spec"]["versions"][0]
    known = {path for path, _ in walk(version["schema"]["openAPIV3Schema"])}
    columns = version["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        *("Min", "Max", "Desired", "Ready", "Busy", "Queued", "Running", "Status", "Age"),
    ]
    for column in columns:
        path = column["jsonPath"]
        assert path in known | {".metadata.creationTimestamp"} or path.startswith(
            ".status.conditions[?"
        )


def test_defaults_are_the_operators(schema: dict[str, Any]) -> None:
    bare = spec.parse_manifest(MINIMAL)
    filled = spec.parse_manifest(as_the_api_server_fills_it(MINIMAL, schema))
    assert dataclasses.asdict(filled) == dataclasses.asdict(bare)
    # And the dataclasses' own defaults, which the tests of other parts build on.
    assert bare.scaling == sections.Scaling()
    assert bare.queue == sections.Queue()
    assert bare.delivery == sections.Delivery()
    assert bare.rate_limit == sections.RateLimit()


def spec_fields(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (path, field)
        for path, field in walk(schema["properties"]["spec"], ".spec")
        if not path.startswith(".spec.template")
    ]


def test_the_operator_knows_every_field_and_obeys_its_bounds(schema: dict[str, Any]) -> None:
    for path, field in spec_fields(schema):
        if field.get("type") == "integer":
            for value in (field["minimum"] - 1, field["maximum"] + 1):
                assert refusals(with_field(path, value), path), f"{path} = {value} is accepted"
            for value in (field["minimum"], field["maximum"]):
                said = refusals(with_field(path, value), path)
                # A relation to another field may forbid the bound itself, never its range.
                assert not [text for text in said if "must be from" in text], f"{path} = {value}"
            assert refusals(with_field(path, "many"), path)
        elif field.get("type") == "boolean":
            assert refusals(with_field(path, "maybe"), path)
        elif "enum" in field:
            assert refusals(with_field(path, "NoSuchWord"), path)
        elif field.get("type") == "array":
            longest, most = field["items"]["maxLength"], field["maxItems"]
            assert refusals(with_field(path, "one"), path)
            assert refusals(with_field(path, ["x"] * (most + 1)), path)
            assert refusals(with_field(path, ["x", "x" * (longest + 1)]), f"{path}[1]")
            assert not refusals(with_field(path, ["x" * longest] * most), path)
        elif field.get("type") == "object":
            assert refusals(with_field(path, 3), path)


def test_weights_have_the_same_bounds_on_both_sides(schema: dict[str, Any]) -> None:
    path = ".spec.queue.fairness.weights"
    field = dict(spec_fields(schema))[path]
    inner, most = field["additionalProperties"], field["maxProperties"]

    def said(weights: dict[Any, Any], where: str = path) -> list[str]:
        manifest = with_field(path, weights)
        manifest["spec"]["queue"]["fairness"]["policy"] = "WeightedRoundRobin"
        return refusals(manifest, where)

    for value in (inner["minimum"] - 1, inner["maximum"] + 1, "much"):
        assert said({"a": value}, f"{path}.a"), f"{value} is accepted"
    assert not said({"a": inner["minimum"], "b": inner["maximum"]})
    assert not said({str(number): 1 for number in range(most)})
    assert said({str(number): 1 for number in range(most + 1)})
    for key in ("", "x" * 65, "ä" * 33, 7):
        assert said({key: 1}), f"the key {key!r} is accepted"
    (rule,) = field["x-kubernetes-validations"]
    assert str(sections.KEY_BYTES_MAX) in rule["rule"]


def refusals(manifest: dict[str, Any], path: str) -> list[str]:
    """What the operator says about this very field."""
    try:
        spec.parse_manifest(manifest)
    except fields.InvalidManifest as refused:
        return [
            str(violation)
            for violation in refused.violations
            if violation.field == path.removeprefix(".")
        ]
    return []


def test_the_operator_has_no_field_that_the_resource_lacks(schema: dict[str, Any]) -> None:
    with pytest.raises(fields.InvalidManifest, match="there is no such field"):
        spec.parse_manifest(with_field(".spec.queue.fairnes", {}))
    filled = as_the_api_server_fills_it(MINIMAL, schema)
    spec.parse_manifest(filled, strict=True)


def test_an_int_or_string_size_is_read_either_way() -> None:
    for value in ("4Mi", 4 * 2**20):
        parsed = spec.parse_manifest(with_field(".spec.queue.maxPendingBytes", value))
        assert parsed.queue.max_pending_bytes == 4 * 2**20
    assert refusals(with_field(".spec.queue.maxPendingBytes", "lots"), "spec.queue.maxPendingBytes")


def test_a_size_has_the_same_bounds_on_both_sides(schema: dict[str, Any]) -> None:
    path = ".spec.queue.maxPendingBytes"
    field = dict(spec_fields(schema))[path]
    for value in (field["minimum"] - 1, -1, field["maximum"] + 1, "1023", "1048577Gi", "9" * 400):
        assert refusals(with_field(path, value), path), f"{value} is accepted"
    assert field["maxLength"] == fields.QUANTITY_CHARACTERS_MAX
    manifest = with_field(path, field["maximum"])
    assert spec.parse_manifest(manifest).queue.max_pending_bytes == field["maximum"]
    smallest = with_field(path, field["minimum"])
    smallest["spec"]["queue"]["maxPayloadBytes"] = 1024
    assert spec.parse_manifest(smallest).queue.max_pending_bytes == field["minimum"]


def test_replicas_are_bounded_where_a_person_sets_them(schema: dict[str, Any]) -> None:
    def said(mode: str, replicas: int) -> list[str]:
        manifest = with_field(".spec.replicas", replicas)
        manifest["spec"]["scaling"] = {"mode": mode, "maxReplicas": 3}
        return refusals(manifest, "spec.replicas")

    assert said("Manual", 4)
    assert not said("External", 4)
    (refused,) = said("Auto", 2)
    assert spec.BACK_TO_AUTO in refused
    rules = schema["properties"]["spec"]["x-kubernetes-validations"]
    assert [rule for rule in rules if spec.BACK_TO_AUTO in rule["message"]]


def test_the_reference_page_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "hack/gen_crd_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_chart_renders_it_unchanged(
    rendered: Callable[..., list[dict[str, Any]]], definition: dict[str, Any]
) -> None:
    crds = [item for item in rendered() if item["kind"] == "CustomResourceDefinition"]
    assert [crd["spec"] for crd in crds] == [definition["spec"]]
    assert crds[0]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_chart_lets_go_of_it_when_told(rendered: Callable[..., list[dict[str, Any]]]) -> None:
    kinds = [item["kind"] for item in rendered({"crds": {"enabled": False}})]
    assert "CustomResourceDefinition" not in kinds
    dropped = [
        item
        for item in rendered({"crds": {"keep": False}})
        if item["kind"] == "CustomResourceDefinition"
    ]
    assert "annotations" not in dropped[0]["metadata"]
    assert not (ROOT / "charts/penstock/crds").exists(), "Helm never upgrades a crds/ folder"


def test_examples_are_good_manifests() -> None:
    found = sorted((ROOT / "examples").glob("*/workerpool.yaml"))
    assert found
    for path in found:
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == spec.KIND:
                spec.parse_manifest(document)
