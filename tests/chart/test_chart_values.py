"""The values: explained where they stand, known to the schema, refused by name when wrong."""

import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "penstock"


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every value that the schema lists."""
    for name, field in schema["properties"].items():
        if field.get("properties") and name != "resources":
            yield from leaves(field, f"{path}{name}.")
        elif name != "global":
            yield f"{path}{name}"


def documented(text: str) -> dict[str, str]:
    """Path of every value of values.yaml → the `# --` comment above it, or nothing."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    comment = ""
    for line in text.splitlines():
        key = re.match(r"^( *)([A-Za-z]+):(.*)$", line)
        if re.match(r"^ *#", line):
            words = line.strip().lstrip("# ")
            comment = words.removeprefix("-- ") if "# --" in line else f"{comment} {words}".strip()
            if "# --" not in line and not comment:
                comment = ""
        elif key:
            depth = len(key.group(1))
            stack = [entry for entry in stack if entry[0] < depth]
            path = ".".join([*(name for _, name in stack), key.group(2)])
            if key.group(3).strip() or comment:
                found[path] = comment
            stack.append((depth, key.group(2)))
            comment = ""
        else:
            comment = ""
    return found


def test_values_schema_and_comments_agree() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    comments = documented((CHART / "values.yaml").read_text())
    wanted = set(leaves(schema))
    have = {path for path in comments if not re.search(r"\.resources\.", path)}
    assert have == wanted
    assert [path for path in sorted(wanted) if len(comments[path]) < 10] == []


def test_schema_is_strict_everywhere() -> None:
    def objects(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "properties" in node and isinstance(node["properties"], dict):
                yield node
            for value in node.values():
                yield from objects(value)

    schema = json.loads((CHART / "values.schema.json").read_text())
    found = list(objects(schema))
    assert len(found) > 12
    assert all(node["additionalProperties"] is False for node in found)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"namespace": ["a"]}, "namespace"),
        ({"namespaces": "team"}, "/namespaces"),
        ({"namespaces": ["Team"]}, "/namespaces/0"),
        ({"auth": {"clients": "closed"}}, "/auth/clients"),
        ({"auth": {"client": "open"}}, "client"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"dispatcher": {"replicas": 2}}, "replicas"),
        ({"dispatcher": {"persistence": {"size": "big"}}}, "/dispatcher/persistence/size"),
        ({"dispatcher": {"persistence": {"accessMode": "ReadWriteMany"}}}, "accessMode"),
        ({"dispatcher": {"service": {"port": 0}}}, "/dispatcher/service/port"),
        ({"dispatcher": {"logLevel": "chatty"}}, "/dispatcher/logLevel"),
        ({"operator": {"workerAddress": "nowhere"}}, "/operator/workerAddress"),
        ({"crds": {"enabled": "yes"}}, "/crds/enabled"),
        ({"operator": {"resources": {"request": {}}}}, "request"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_bad_values_are_refused_by_name(
    template: Callable[..., Any], values: dict[str, Any], named: str
) -> None:
    done = template(values)
    assert done.returncode != 0
    assert named in done.stderr


def test_chart_and_distribution_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project
    assert chart["version"] == chart["appVersion"] == project.group(1)
