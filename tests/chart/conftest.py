"""Helm and its linters, and the chart rendered as objects.

The tools come from the PATH where they are there, else from `hack/cluster tools`, which builds
them once into its cache.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "penstock"
TOOLS = ("helm", "kubeconform", "kube-score")
# Helm built from its module knows no Kubernetes version of its own.
KUBE_VERSION = "1.36.3"

Object = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """Runs one of the tools by name; output as text."""

    path: str

    def run(
        self, *arguments: str | pathlib.Path, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(argument) for argument in arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
            env={**os.environ, "PATH": self.path},
        )


@pytest.fixture(scope="session")
def tools() -> Tools:
    path = os.environ["PATH"]
    if not all(shutil.which(tool) for tool in TOOLS):
        cluster = ROOT / "hack" / "cluster"
        built = subprocess.run(
            [sys.executable, cluster, "tools", *TOOLS], capture_output=True, text=True, check=False
        )
        if built.returncode:
            pytest.skip(f"{', '.join(TOOLS)} are not there and cannot be built: {built.stderr}")
        path = built.stdout.strip() + os.pathsep + path
    return Tools(path=path)


Render = Callable[..., list[Object]]


@pytest.fixture(scope="session")
def template(tools: Tools) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`helm template` with values given as a dict: release `penstock` in namespace `system`."""

    def render(values: Object | None = None) -> subprocess.CompletedProcess[str]:
        return tools.run(
            *("helm", "template", "penstock", CHART, "--namespace", "system"),
            *("--kube-version", KUBE_VERSION, "--values", "-"),
            stdin=yaml.safe_dump(values or {}),
        )

    return render


@pytest.fixture(scope="session")
def rendered(template: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """The chart's objects for these values."""

    def render(values: Object | None = None) -> list[Object]:
        done = template(values)
        assert done.returncode == 0, done.stderr
        return [item for item in yaml.safe_load_all(done.stdout) if item]

    return render


@pytest.fixture(scope="session")
def definition() -> Object:
    """The CustomResourceDefinition as it stands in the tree."""
    document: Object = yaml.safe_load(
        (CHART / "files" / "workerpools.penstock.dev.yaml").read_text()
    )
    return document


@pytest.fixture(scope="session")
def schema(definition: Object) -> Object:
    """The OpenAPI schema of a WorkerPool."""
    found: Object = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found
