"""Tools built from Go modules, into the cache, once for each version.

Each folder of ``hack/tools`` is a small Go module that pins tools: ``go.mod``
says which, ``go.sum`` says exactly what, a ``main.go`` is there where a tool
has no main package of its own that can be built as a dependency. The hash of
these files is the key of the tool in the cache, so a changed pin builds anew
and nothing else ever does. Programs that are not part of a cluster (kubectl,
helm, the linters) may also be the ones on PATH; a pinned one that is built
already comes first.

A build is written beside its destination and renamed, so that an interrupted
one leaves nothing; a lock keeps two runs from building at once.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import locks
import paths
from processes import run_logged
from report import ClusterError, progress, say

GO_MINIMUM = (1, 26)


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: its module (a folder of ``hack/tools``), its package, its usual build time.

    The seconds were measured on two cores with nothing cached, in this order; a
    later tool of the same module finds most of its packages compiled.
    """

    name: str
    module: str
    package: str
    seconds: float


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 280),
        Tool("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", 51),
        Tool(
            "kube-controller-manager",
            "kubernetes",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            30,
        ),
        Tool("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", 6),
        Tool("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", 7),
        Tool("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", 24),
        Tool("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd", 60),
        Tool(
            "containerd-shim-runc-v2",
            "containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            2,
        ),
        Tool("ctr", "containerd", "github.com/containerd/containerd/v2/cmd/ctr", 4),
        Tool("etcd", "etcd", ".", 28),
        Tool("coredns", "coredns", "github.com/coredns/coredns", 89),
        Tool("pause", "pause", ".", 2),
        Tool("helm", "helm", "helm.sh/helm/v3/cmd/helm", 61),
        Tool("kind", "kind", "sigs.k8s.io/kind", 3),
        Tool("grpcurl", "grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl", 25),
        Tool("kubeconform", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", 3),
        Tool("kube-score", "kube-score", "github.com/zegl/kube-score/cmd/kube-score", 18),
        Tool("ghz", "ghz", "github.com/bojand/ghz/cmd/ghz", 60),
        Tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 87),
        Tool("nats-server", "nats-server", "github.com/nats-io/nats-server/v2", 30),
    )
}

#: What the node without Docker consists of.
NODE_TOOLS = (
    "kube-apiserver",
    "kubelet",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "etcd",
    "coredns",
    "pause",
)
#: What people and tests talk to a cluster with, whatever sort it is.
CLIENT_TOOLS = ("kubectl", "helm")
#: What only the tests use.
TEST_TOOLS = ("grpcurl", "kubeconform", "kube-score")


@functools.cache
def module_key(module: str) -> str:
    """The hash of what a module's tools are built from, and for which machine."""
    folder = paths.TOOL_MODULES / module
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}\n".encode())
    for name in ("go.mod", "go.sum", "main.go"):
        file = folder / name
        digest.update(f"{name}\n".encode())
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()[:12]


def binary(name: str) -> Path:
    """Where the tool's binary is, or will be, in the cache."""
    return paths.under_cache("bin") / f"{name}-{module_key(TOOLS[name].module)}"


def program(name: str) -> Path | None:
    """A tool that is there: built, or on PATH where it need not be the pinned one."""
    built = binary(name)
    if built.exists():
        return built
    found = None if name in NODE_TOOLS else shutil.which(name)
    return Path(found) if found is not None else None


def missing(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are not there, in the order that is quickest to build."""
    wanted = set(names)
    return [name for name in TOOLS if name in wanted and program(name) is None]


def ensure(names: Sequence[str]) -> Path:
    """Build what is missing of ``names``; the folder that has what was built under plain names."""
    unknown = sorted(set(names) - set(TOOLS))
    if unknown:
        raise ClusterError(
            f"no such tool: {', '.join(unknown)}", remedy=f"known are: {', '.join(TOOLS)}"
        )
    if missing(names):
        with locks.exclusive("tools"):
            lacking = missing(names)
            if lacking:
                require_go(for_tools=lacking)
                total = sum(TOOLS[name].seconds for name in lacking)
                say(
                    f"{len(lacking)} of {len(names)} tools must be built from source, once: "
                    f"about {total:.0f} s on two cores"
                )
            for number, name in enumerate(lacking, start=1):
                _build(TOOLS[name], label=f"building {name} ({number} of {len(lacking)})")
    return path_folder()


def path_folder() -> Path:
    """The folder for ``PATH``: a link for each tool that is built, for this checkout's pins."""
    keys = "".join(module_key(module) for module in sorted({t.module for t in TOOLS.values()}))
    folder = paths.under_cache("path", hashlib.sha256(keys.encode()).hexdigest()[:12])
    for name in TOOLS:
        link, target = folder / name, binary(name)
        if target.exists() and not link.is_symlink():
            # Relative, because the node sees the cache folder under another name.
            scratch = folder / f".{name}.{os.getpid()}"
            scratch.symlink_to(Path("..", "..", "bin", target.name))
            scratch.replace(link)
    return folder


def require_go(*, for_tools: Sequence[str]) -> None:
    """Raise unless a Go of the needed version can be run."""
    problem = go_problem()
    if problem:
        instead = [name for name in for_tools if name not in NODE_TOOLS]
        also = f", or install {', '.join(instead)} yourself" if instead else ""
        raise ClusterError(problem, remedy=f"install Go and put it on PATH{also}")


@functools.cache
def go_problem() -> str:
    """Why tools cannot be built here; empty when they can."""
    wanted = ".".join(str(part) for part in GO_MINIMUM)
    if shutil.which("go") is None:
        return f"Go is not on PATH (version {wanted} or later is needed)"
    # Asked inside a module, because Go may switch to the toolchain that the module wants.
    done = subprocess.run(
        ["go", "env", "GOVERSION"],
        cwd=paths.TOOL_MODULES / "containerd",
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    if found is None:
        return f"Go does not run: {(done.stderr or done.stdout).strip()[-200:]}"
    if (int(found[1]), int(found[2])) < GO_MINIMUM:
        return f"Go is {done.stdout.strip()}, and {wanted} or later is needed"
    return ""


def _build(tool: Tool, *, label: str) -> None:
    target = binary(tool.name)
    scratch = target.with_name(f".{target.name}.part")
    scratch.unlink(missing_ok=True)
    command: list[str | Path] = [
        *("nice", "-n", "5", "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
        *("-ldflags", f"-s -w{_version_flags(tool.module)}"),
        *("-o", scratch, tool.package),
    ]
    log = paths.under_cache("logs") / f"build-{tool.name}.log"
    with progress(label, expected_seconds=tool.seconds) as tick:
        run_logged(
            command,
            log=log,
            tick=tick,
            cwd=paths.TOOL_MODULES / tool.module,
            env=_environment(),
            remedy=f"the whole output is in {log}",
        )
    scratch.replace(target)


def _environment() -> dict[str, str]:
    # A cross-compiling or workspace setting of the caller must not leak into the tools.
    dropped = {"GOOS", "GOARCH"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "CGO_ENABLED": "0", "GOWORK": "off"}


def _version_flags(module: str) -> str:
    # Kubernetes' binaries learn their version from the linker; without it a client
    # is told v0.0.0 and refuses.
    if module != "kubernetes":
        return ""
    text = (paths.TOOL_MODULES / module / "go.mod").read_text()
    found = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.\S+", text)
    if found is None:
        raise ClusterError("hack/tools/kubernetes/go.mod names no version of k8s.io/kubernetes")
    version = found[0].split()[1]
    values = {
        "k8s.io/component-base/version.gitVersion": version,
        "k8s.io/component-base/version.gitMajor": found[1],
        "k8s.io/component-base/version.gitMinor": found[2],
        "k8s.io/component-base/version.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": version,
    }
    return "".join(f" -X {name}={value}" for name, value in values.items())
