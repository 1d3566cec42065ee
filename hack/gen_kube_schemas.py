"""Makes tests/chart/schemas: what kubeconform needs to check the chart without a network.

Kubernetes publishes its API as one Swagger file, which is part of the Go module that the test
cluster is built from (pinned in hack/tools/kubernetes). This takes the kinds that the chart
renders, and all they refer to, out of it, without descriptions, and strict: a field that does not
exist is an error. Run it after the pin has changed, or when the chart renders a new kind:

    python3 hack/gen_kube_schemas.py
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "tests" / "chart" / "schemas"
PREFIX = "#/definitions/"
API = "io.k8s.api"
EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
ADMISSION = f"{API}.admissionregistration.v1.ValidatingAdmissionPolicy"
KINDS = {
    "clusterrole-rbac-v1": f"{API}.rbac.v1.ClusterRole",
    "customresourcedefinition-apiextensions-v1": f"{EXTENSIONS}.CustomResourceDefinition",
    "deployment-apps-v1": f"{API}.apps.v1.Deployment",
    "networkpolicy-networking-v1": f"{API}.networking.v1.NetworkPolicy",
    "poddisruptionbudget-policy-v1": f"{API}.policy.v1.PodDisruptionBudget",
    "role-rbac-v1": f"{API}.rbac.v1.Role",
    "rolebinding-rbac-v1": f"{API}.rbac.v1.RoleBinding",
    "secret-v1": f"{API}.core.v1.Secret",
    "service-v1": f"{API}.core.v1.Service",
    "serviceaccount-v1": f"{API}.core.v1.ServiceAccount",
    "statefulset-apps-v1": f"{API}.apps.v1.StatefulSet",
    "validatingadmissionpolicy-admissionregistration-v1": ADMISSION,
    "validatingadmissionpolicybinding-admissionregistration-v1": f"{ADMISSION}Binding",
}
# Types whose JSON is not what the Swagger file says of their Go type.
LOOSE: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    f"{EXTENSIONS}.JSON": {},
    f"{EXTENSIONS}.JSONSchemaPropsOrArray": {},
    f"{EXTENSIONS}.JSONSchemaPropsOrBool": {},
    f"{EXTENSIONS}.JSONSchemaPropsOrStringArray": {},
}


def swagger() -> dict[str, Any]:
    """The API of the pinned Kubernetes."""
    folder = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"],
        cwd=ROOT / "hack" / "tools" / "kubernetes",
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    document: dict[str, Any] = json.loads(
        pathlib.Path(folder, "api", "openapi-spec", "swagger.json").read_text()
    )
    return document


def slim(schema: Any) -> Any:
    """A schema without prose, and strict where it lists its fields."""
    if isinstance(schema, list):
        return [slim(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: slim(value)
        for key, value in schema.items()
        if key in {"type", "items", "required", "enum", "$ref", "additionalProperties"}
    }
    if "properties" in schema:
        kept["properties"] = {name: slim(value) for name, value in schema["properties"].items()}
        kept.setdefault("additionalProperties", False)
    return kept


def references(schema: Any) -> set[str]:
    """Names of the definitions that a schema refers to."""
    if isinstance(schema, list):
        return set().union(*(references(item) for item in schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    found = {schema["$ref"].removeprefix(PREFIX)} if isinstance(schema.get("$ref"), str) else set()
    return found.union(*(references(value) for value in schema.values()))


def main() -> int:
    """Write the schemas anew."""
    document = swagger()
    definitions: dict[str, Any] = {}
    wanted = set(KINDS.values())
    while wanted:
        name = wanted.pop()
        definitions[name] = LOOSE.get(name) or (
            {} if name in LOOSE else slim(document["definitions"][name])
        )
        wanted |= references(definitions[name]) - definitions.keys()
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for old in SCHEMAS.glob("*.json"):
        old.unlink()
    compact = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
    lines = ",\n".join(
        f"{json.dumps(name)}: {compact.encode(definitions[name])}" for name in sorted(definitions)
    )
    comment = f"Kubernetes {document['info']['version']}; made by hack/gen_kube_schemas.py"
    (SCHEMAS / "definitions.json").write_text(
        f'{{"$comment": "{comment}",\n"definitions": {{\n{lines}\n}}}}\n'
    )
    for kind, name in KINDS.items():
        (SCHEMAS / f"{kind}.json").write_text(
            json.dumps({"$ref": f"definitions.json{PREFIX}{name}"}) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
