"""The test cluster: ``python3 hack/cluster <command>``.

Gives the tests a real Kubernetes cluster on whatever machine they run: one that
is given, kind where a Docker engine answers, or else a node made here from
source. Builds the images and loads them. See docs/how-to/test-cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import builders
import builds
import choice
import images
import kindcluster
import layout
import locks
import node
import nodeimages
import paths
import record
import supervisor
import wheels
from choice import Mode
from report import EXIT_FAILED, ClusterError, say

_CLUSTER_TOOLS: dict[Mode, tuple[str, ...]] = {
    Mode.GIVEN: (),
    Mode.KIND: ("kind",),
    Mode.NODE: builds.NODE_TOOLS,
}
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNREACHABLE_BY_PROXY = (layout.NODE_ADDRESS, layout.SERVICE_SUBNET, layout.POD_SUBNET)


def tools(arguments: argparse.Namespace) -> None:
    """Build tools that are not there (by default all that tests use), and print their folder."""
    names = arguments.names or [
        *_CLUSTER_TOOLS[choice.decide()],
        *builds.CLIENT_TOOLS,
        *builds.TEST_TOOLS,
    ]
    print(builds.ensure(names))


def up(_arguments: argparse.Namespace) -> None:
    """Have a ready cluster, and kubectl and helm: reuse the one that runs, or start one."""
    mode = choice.decide()
    builds.ensure([*_CLUSTER_TOOLS[mode], *builds.CLIENT_TOOLS])
    if mode is Mode.GIVEN:
        say(f"using the cluster of {choice.given_kubeconfig()}")
    elif mode is Mode.KIND:
        kindcluster.up()
    else:
        node.up()


def down(_arguments: argparse.Namespace) -> None:
    """Stop the cluster and remove what it made."""
    if choice.given_kubeconfig() is not None:
        say("the cluster was given; it is not ours to stop")
        return
    # Both are looked at, whichever would be chosen now: what was started is stopped.
    if sys.platform == "linux" and os.geteuid() == 0:
        node.down()
    if kindcluster.kubeconfig_file().exists():
        kindcluster.down()


def status(_arguments: argparse.Namespace) -> None:
    """Print what the cluster is and how it does, as JSON; exit with 0 when it is ready."""
    mode = choice.decide()
    facts: dict[str, object] = {"mode": mode.value, "cache": str(paths.cache())}
    if mode is Mode.GIVEN:
        ready = True
    elif mode is Mode.KIND:
        ready = kindcluster.exists() and kindcluster.ready(wait_seconds=1)
    else:
        ready = node.healthy()
        running = record.supervisor()
        facts |= {
            "supervisor": running.pid if running else None,
            "components": node.component_status(),
            "logs": str(layout.logs_folder()),
        }
    facts |= {"ready": ready, "kubeconfig": str(_kubeconfig(mode)) if ready else None}
    print(json.dumps(facts, indent=2))
    if not ready:
        raise SystemExit(EXIT_FAILED)


def env(_arguments: argparse.Namespace) -> None:
    """Print shell exports: eval "$(python3 hack/cluster env)"."""
    mode = choice.decide()
    values = {"KUBECONFIG": str(_running(mode))}
    if mode is not Mode.GIVEN:
        values["PENSTOCK_CLUSTER"] = mode.value
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY")):
        before = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
        direct = ",".join([*UNREACHABLE_BY_PROXY, *([before] if before else [])])
        values |= {"NO_PROXY": direct, "no_proxy": direct}
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"export PATH={shlex.quote(str(builds.path_folder()))}:$PATH")


def kubeconfig(_arguments: argparse.Namespace) -> None:
    """Print the path of the kubeconfig."""
    print(_running(choice.decide()))


def build_images(arguments: argparse.Namespace) -> None:
    """Build the images that are not up to date, and print their names."""
    mode = choice.decide()
    if mode is Mode.GIVEN:
        say("the cluster was given: its images must be there already; nothing is built")
        return
    print("\n".join(images.ensure(_builder(mode), arguments.names)))


def core(_arguments: argparse.Namespace) -> None:
    """Compile the dispatcher's core, and print the folder with its modules."""
    print(wheels.compiled_core())


def load(arguments: argparse.Namespace) -> None:
    """Load built images (all by default) into the cluster, where their content changed."""
    mode = choice.decide()
    if mode is Mode.GIVEN:
        say("the cluster was given: its images must be there already; nothing is loaded")
        return
    names = [images.full_name(name) for name in arguments.names]
    names = names or [image.name for image in images.catalogue()]
    _running(mode)
    builder = _builder(mode)
    unbuilt = [name for name in names if not builder.inputs(name)]
    if unbuilt:
        images.ensure(builder, unbuilt)
    if mode is Mode.KIND:
        kindcluster.load(names)
    else:
        with locks.exclusive("images"):
            changed = nodeimages.load(builders.layout_of(builder), names)
        say(f"{len(changed)} of {len(names)} images were new to the node")


def logs(arguments: argparse.Namespace) -> None:
    """Print the last lines of the components' logs, or collect all logs in a folder."""
    mode = choice.decide()
    if mode is Mode.GIVEN:
        raise ClusterError("the cluster was given: its logs are not here")
    if mode is Mode.KIND:
        folder = arguments.collect or paths.under_cache("kind") / "logs"
        kindcluster.export_logs(folder)
        print(folder)
        return
    if arguments.collect:
        shutil.copytree(layout.logs_folder(), arguments.collect, dirs_exist_ok=True)
        print(arguments.collect)
        return
    files = sorted(layout.logs_folder().glob("*.log"))
    chosen = [file for file in files if not arguments.names or file.stem in arguments.names]
    if not chosen:
        raise ClusterError(f"no such log; there are: {', '.join(file.stem for file in files)}")
    for file in chosen:
        print(f"==> {file}")
        lines = file.read_text(errors="replace").splitlines()
        print("\n".join(lines[-arguments.lines :]))


def supervise(_arguments: argparse.Namespace) -> None:
    """Be the node's first process (started by `up`, not by hand)."""
    raise SystemExit(supervisor.main())


def _kubeconfig(mode: Mode) -> Path:
    if mode is Mode.GIVEN:
        given = choice.given_kubeconfig()
        assert given is not None
        return given
    return kindcluster.kubeconfig_file() if mode is Mode.KIND else layout.kubeconfig_file()


def _running(mode: Mode) -> Path:
    """The kubeconfig of a cluster that was started."""
    started = mode is not Mode.NODE or record.supervisor() is not None
    path = _kubeconfig(mode)
    if not (started and path.exists()):
        raise ClusterError("no cluster runs", remedy="start one: python3 hack/cluster up")
    return path


def _builder(mode: Mode) -> builders.Builder:
    """What builds images for this sort of cluster."""
    return builders.Buildah() if mode is Mode.NODE else builders.Docker()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/cluster", description=(__doc__ or "").partition("\n\n")[2]
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        text = (run.__doc__ or "").strip()
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("up", up)
    add("down", down)
    add("status", status)
    add("env", env)
    add("kubeconfig", kubeconfig)
    add("tools", tools).add_argument("names", nargs="*", metavar="NAME")
    add("images", build_images).add_argument("names", nargs="*", metavar="IMAGE")
    add("core", core)
    add("load", load).add_argument("names", nargs="*", metavar="IMAGE")
    command = add("logs", logs)
    command.add_argument("names", nargs="*", metavar="COMPONENT")
    command.add_argument("--lines", type=int, default=20, help="how many of each (20)")
    command.add_argument("--collect", type=Path, metavar="FOLDER", help="copy all logs there")
    add("supervise", supervise)
    return parser


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    # Any request to end takes the way of Ctrl-C, so that what was begun is stopped. A second one
    # (the terminal and our caller may both ask) must not cut that short.
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run one command; errors become lines, interrupts the usual exit code."""
    for number in INTERRUPTS:
        signal.signal(number, _interrupted)
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except ClusterError as error:
        say(f"error: {error.what}")
        if error.remedy:
            say(error.remedy)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
