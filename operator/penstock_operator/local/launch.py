"""What a manifest's worker container is as a process on this machine. Pure.

The image is replaced by this interpreter: `args` go to its penstock-worker, as they go to the
image's entry point; `command` may name penstock-worker or python, which mean those of this
environment, or any other program. `env` is kept, with `$(NAME)` as Kubernetes expands it. What
comes from a ConfigMap or a Secret must be in the environment of `penstock up` under the same name.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from penstock_operator import fields, resources, spec, template

PREFIX: Final = "PENSTOCK_"
"""Variables of ours never come from the surroundings: they would be another fleet's."""
_PYTHON: Final = re.compile(r"python3?(\.\d+)?")
_REFERENCE: Final = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_FROM_POD: Final = ("metadata.name", "metadata.namespace", "metadata.uid")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one worker of a pool. `notes` say what of the manifest has no part here."""

    pool: spec.WorkerPoolSpec
    revision: str
    container: Mapping[str, Any]
    surroundings: Mapping[str, str]
    python: str
    notes: tuple[str, ...]

    def environment(self, *, address: str, pod_name: str, pod_uid: str) -> dict[str, str]:
        """All variables of the process."""
        from_pod = dict(zip(_FROM_POD, (pod_name, self.pool.namespace, pod_uid), strict=True))
        found = {
            name: value for name, value in self.surroundings.items() if not name.startswith(PREFIX)
        }
        for variable in self.container.get("env") or []:
            name = variable["name"]
            source = variable.get("valueFrom")
            if not source:
                found[name] = expanded(variable.get("value") or "", found)
            elif (path := _field_path(source)) in from_pod:
                found[name] = from_pod[path]
        return {
            **found,
            **resources.worker_environment(self.pool, address=address, revision=self.revision),
            "PENSTOCK_POD_NAME": pod_name,
            "PENSTOCK_POD_UID": pod_uid,
            "PYTHONUNBUFFERED": "1",
        }

    def arguments(self, environment: Mapping[str, str]) -> list[str]:
        """The program and its arguments. `-P`: a module of the user's that is called like one of
        the standard library must not take its place; the worker finds it all the same.
        """
        command, given = (
            [expanded(each, environment) for each in self.container.get(kind) or []]
            for kind in ("command", "args")
        )
        program = pathlib.PurePath(command[0]).name if command else "penstock-worker"
        if program == "penstock-worker":
            return [self.python, "-P", "-m", "penstock_worker", *command[1:], *given]
        if _PYTHON.fullmatch(program):
            command[0] = self.python
        return [*command, *given]


def launch_of(pool: spec.WorkerPoolSpec, *, surroundings: Mapping[str, str], python: str) -> Launch:
    """How the pool's workers are started. Raises `fields.InvalidManifest` for what cannot be."""
    pod = pool.template["spec"]
    index, container = next(
        (index, each)
        for index, each in enumerate(pod["containers"])
        if each.get("name") == pool.worker_container
    )
    path = f"{template.ROOT}.spec.containers[{index}]"
    violations = tuple(_violations(container, path=path, surroundings=surroundings))
    if violations:
        raise fields.InvalidManifest(violations)
    return Launch(
        pool=pool,
        revision=resources.revision_hash(pool),
        container=container,
        surroundings=surroundings,
        python=python,
        notes=tuple(_notes(pod, container, path=path)),
    )


def _violations(
    container: Mapping[str, Any], *, path: str, surroundings: Mapping[str, str]
) -> Iterator[fields.Violation]:
    variables = container.get("env") or []
    named = any(each["name"] == "PENSTOCK_APP" for each in variables)
    if not (container.get("command") or container.get("args") or named):
        yield fields.Violation(
            f"{path}.args",
            "is needed where no image says what to run: add the handlers, such as "
            'args: ["handlers:worker"]; a cluster takes the same',
        )
    for variable in variables:
        source = variable.get("valueFrom")
        if not source or variable["name"] in surroundings or _field_path(source) in _FROM_POD:
            continue
        if not any(isinstance(each, Mapping) and each.get("optional") for each in source.values()):
            yield fields.Violation(
                f"{path}.env[{variable['name']}].valueFrom",
                "cannot be read without Kubernetes: set the variable "
                f"{variable['name']} where you start the fleet",
            )


def _notes(pod: Mapping[str, Any], container: Mapping[str, Any], *, path: str) -> Iterator[str]:
    others = [
        str(each.get("name"))
        for kind in ("initContainers", "containers")
        for each in pod.get(kind) or []
        if each is not container
    ]
    if others:
        yield f"not run here: {template.ROOT}.spec, other containers: {', '.join(others)}"
    if container.get("envFrom"):
        yield f"not read here: {path}.envFrom; set its variables where you start the fleet"


def _field_path(source: Mapping[str, Any]) -> str:
    return str((source.get("fieldRef") or {}).get("fieldPath", ""))


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced, `$$` unescaped; a name that is unknown stays as it is written."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return _REFERENCE.sub(value, text)
