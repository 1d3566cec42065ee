"""Makes docs/reference/workerpool.md from the one source of the resource.

That is charts/penstock/files/workerpools.penstock.dev.yaml.

    python3 hack/gen_crd_reference.py            # write it
    python3 hack/gen_crd_reference.py --check    # exit 1 when it is not fresh

One table for each object of the manifest; all of it, prose included, stands in the resource.
"""

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "charts" / "penstock" / "files" / "workerpools.penstock.dev.yaml"
TARGET = ROOT / "docs" / "reference" / "workerpool.md"
HEADER = """\
# WorkerPool, field by field

<!-- Made by hack/gen_crd_reference.py from the resource in charts/penstock/files; do not edit. -->

`apiVersion: penstock.dev/v1alpha1`, `kind: WorkerPool`, short name `wpool`. `kubectl explain
wpool.spec` shows the same on a cluster. The API server refuses what breaks a rule below, with a
message that names the field; a field that is not listed does not exist.

"""


def type_of(schema: dict[str, Any]) -> str:
    """The type in a reader's words."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return " \\| ".join(f"`{word}`" for word in schema["enum"])
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'])}s"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}s"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def bounds_of(schema: dict[str, Any]) -> str:
    """The bounds of a number, a text or a list."""
    if "additionalProperties" in schema:
        return (
            f"0 to {schema['maxProperties']} keys, each {bounds_of(schema['additionalProperties'])}"
        )
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    if "maxLength" in schema:
        return f"{schema.get('minLength', 0)} to {schema['maxLength']} characters"
    if "maxItems" in schema:
        return f"{schema.get('minItems', 0)} to {schema['maxItems']}"
    return ""


def default_of(schema: dict[str, Any], *, required: bool) -> str:
    """The default of a field; of an object the fields say theirs."""
    if required:
        return "required"
    value = schema.get("default")
    if value is None or isinstance(value, dict):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def sections(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with fields, in the order of the manifest, with its path."""
    yield path, schema
    for name, field in schema["properties"].items():
        inner = field["items"] if field.get("type") == "array" else field
        suffix = "[]" if field.get("type") == "array" else ""
        if inner.get("properties"):
            yield from sections(f"{path}.{name}{suffix}", inner)


def render(definition: dict[str, Any]) -> str:
    """The whole page."""
    version = definition["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    parts = [HEADER, root["description"], "\n\n"]
    parts.append("Names: " + "; ".join(rule["message"] for rule in rules(root)) + ".\n\n")
    for top in ("spec", "status"):
        for path, schema in sections(top, root["properties"][top]):
            parts.append(f"## `{path}`\n\n{schema['description']}\n\n")
            parts.append(
                "| field | type | default | bounds | what it does |\n|---|---|---|---|---|\n"
            )
            required = schema.get("required", [])
            for name, field in schema["properties"].items():
                cells = (
                    f"`{name}`",
                    type_of(field),
                    default_of(field, required=name in required and top == "spec"),
                    bounds_of(field),
                    field["description"],
                )
                parts.append(f"| {' | '.join(cells)} |\n")
            broken = [*rules(schema)]
            for field in schema["properties"].values():
                if "properties" not in field:
                    broken.extend(rules(field))
            if broken:
                parts.append("\nRefused with these messages:\n\n")
                parts.extend(f"* {rule['message']}\n" for rule in broken)
            parts.append("\n")
    parts.append(
        "## Columns of `kubectl get wpool`\n\n| column | from | what it shows |\n|---|---|---|\n"
    )
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        parts.append(
            f"| {column['name']}{wide} | `{column['jsonPath']}` | {column['description']} |\n"
        )
    return "".join(parts)


def rules(schema: dict[str, Any]) -> list[dict[str, str]]:
    """The rules that an API server evaluates on this object or field."""
    found: list[dict[str, str]] = schema.get("x-kubernetes-validations", [])
    return found


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    page = render(yaml.safe_load(SOURCE.read_text()))
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text() == page:
            return 0
        print(f"{TARGET.relative_to(ROOT)} is not fresh: run python3 hack/gen_crd_reference.py")
        return 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
