"""`--kube` and `kubectl penstock`, with a kubectl that forwards to a dispatcher on loopback.

The stand-in answers the two questions that are asked of kubectl, in kubectl's own words, and notes
its process id, its arguments, and that it was ended.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from rig import programs

KUBECTL = """\
#!{python}
import os, pathlib, signal, socket, sys, threading

folder = pathlib.Path(sys.argv[0]).parent
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "get":
    print((folder / "services").read_text(), end="")
    words = (folder / "refusal").read_text()
    print(words, end="", file=sys.stderr)
    sys.exit(1 if words else 0)
if (folder / "unforwardable").exists():
    print("error: unable to forward port because pod is not running", file=sys.stderr)
    sys.exit(1)


def ended(*_):
    (folder / "ended").write_text("ended")
    os._exit(0)


signal.signal(signal.SIGTERM, ended)
(folder / "pid").write_text(str(os.getpid()))
host, port = (folder / "address").read_text().split(":")
listening = socket.create_server(("127.0.0.1", 0))


def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)


print(f"Forwarding from 127.0.0.1:{{listening.getsockname()[1]}} -> 50051", flush=True)
while True:
    one, _ = listening.accept()
    print("Handling connection for 50051", flush=True)
    other = socket.create_connection((host, int(port)))
    for pair in ((one, other), (other, one)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""
MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: demo}
spec:
  template: {spec: {containers: [{name: worker, image: example/worker}]}}
"""
SERVICES = "penstock-dispatcher 50052\npenstock-dispatcher-headless 50051\n"
PLUGIN = str(programs.BIN / "kubectl-penstock")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("dispatcher")
    (folder / "pools.yaml").write_text(MANIFEST)
    made = programs.Standalone(folder, folder / "pools.yaml")
    try:
        pools = programs.penstock(made.address, pool="demo")("pools", "--request-timeout", "30")
        assert pools.returncode == 0, pools.stderr
        yield made.address
    finally:
        made.kill()


@pytest.fixture
def kubectl(address: str, tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for PATH, with the stand-in and what it says."""
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable))
    program.chmod(0o755)
    (tmp_path / "address").write_text(address)
    (tmp_path / "services").write_text(SERVICES)
    (tmp_path / "refusal").write_text("")
    return tmp_path


def environment(kubectl: pathlib.Path, **variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**clean, "PATH": f"{kubectl}:{os.environ['PATH']}", **variables}


def run(
    kubectl: pathlib.Path, *arguments: str, program: str = programs.PENSTOCK, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program, *arguments],
        env=environment(kubectl, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_kube_forwards_for_the_length_of_a_command(kubectl: pathlib.Path) -> None:
    done = run(kubectl, "pools", "--kube", "--kube-namespace", "tasks", "--request-timeout", "30")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert done.stderr == ""
    get, forward = (kubectl / "calls").read_text().splitlines()
    assert get.startswith("get services --namespace tasks --selector app.kubernetes.io/part-of=")
    assert forward == (
        "port-forward --namespace tasks --address 127.0.0.1 service/penstock-dispatcher :50052"
    )
    assert (kubectl / "ended").exists()


@pytest.mark.parametrize(
    ("program", "arguments", "variables", "forwards"),
    [
        (PLUGIN, ["list", "-p", "demo"], {}, True),
        (PLUGIN, ["list", "-p", "demo", "--namespace", "x"], {}, True),
        (PLUGIN, ["list", "-p", "demo"], {"PENSTOCK_ADDRESS": "127.0.0.1:1"}, True),
        (programs.PENSTOCK, ["list", "-p", "demo"], {"PENSTOCK_KUBE": "1"}, True),
        (programs.PENSTOCK, ["list", "-p", "demo"], {"PENSTOCK_KUBE": "1", "here": "1"}, False),
    ],
)
def test_who_asks_for_the_kube_context(
    kubectl: pathlib.Path,
    address: str,
    program: str,
    arguments: list[str],
    variables: dict[str, str],
    forwards: bool,
) -> None:
    if variables.pop("here", ""):
        variables = {**variables, "PENSTOCK_ADDRESS": address}
    done = run(kubectl, *arguments, program=program, **variables)
    assert done.returncode == 0, done.stderr
    assert (kubectl / "ended").exists() is forwards


def test_failures_are_one_line_with_a_remedy(kubectl: pathlib.Path, address: str) -> None:
    def failed(status: int, *words: str, arguments: tuple[str, ...] = ()) -> None:
        programs.failed(run(kubectl, "pools", "--kube", *arguments), status, *words)

    (kubectl / "refusal").write_text("E1 noise\nThe connection to the server was refused\n")
    failed(3, "server was refused", "kubectl config current-context", "--address")
    (kubectl / "refusal").write_text("")
    (kubectl / "services").write_text("")
    failed(3, "no dispatcher in the namespace of the kube context", "--kube-namespace")
    failed(3, "no dispatcher in namespace x", arguments=("--kube-namespace", "x"))
    (kubectl / "services").write_text("a-dispatcher 50051\nb-dispatcher 50051\n")
    failed(3, "several dispatchers", "a-dispatcher, b-dispatcher", "--address")
    (kubectl / "services").write_text(SERVICES)
    (kubectl / "unforwardable").write_text("")
    failed(3, "pod is not running", "--address")
    failed(2, "not both", arguments=("--address", address))
    (kubectl / "kubectl").unlink()
    nowhere = {"PATH": str(kubectl), "PENSTOCK_KUBE": "1"}
    done = run(kubectl, "pools", **nowhere)
    programs.failed(done, 3, "kubectl is not on PATH", "install it", "--address")
    lost = run(kubectl, "pools", "--kube-namespace", "x")
    programs.failed(lost, 2, "add --kube")
    usage = run(kubectl, "polls", program=PLUGIN)
    programs.failed(usage, 2, "polls", "'kubectl penstock --help'")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_helper_ends_with_us(kubectl: pathlib.Path, number: signal.Signals) -> None:
    watching = subprocess.Popen(
        [programs.PENSTOCK, "watch", "-p", "demo", "--kube"],
        env=environment(kubectl),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,  # noqa: PLW1509 - no threads that matter here
    )
    assert watching.stdout is not None
    assert "RUNNING" in watching.stdout.readline()
    helper = int((kubectl / "pid").read_text())
    watching.send_signal(number)
    assert watching.wait(20) == 128 + number
    assert watching.stderr is not None
    assert watching.stderr.read() == ""
    assert (kubectl / "ended").exists()
    assert not pathlib.Path(f"/proc/{helper}").exists()


def test_the_helper_does_not_outlive_a_kill(kubectl: pathlib.Path) -> None:
    watching = subprocess.Popen(
        [programs.PENSTOCK, "watch", "-p", "demo", "--kube"],
        env=environment(kubectl),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert watching.stdout is not None
    assert "RUNNING" in watching.stdout.readline()
    helper = int((kubectl / "pid").read_text())
    keeper = int(_stat(helper)[1])
    assert keeper != watching.pid
    watching.kill()
    watching.wait(10)
    deadline = time.monotonic() + 20
    while any(_stat(pid)[0] not in "ZX" for pid in (helper, keeper)):
        assert time.monotonic() < deadline, "it is left behind"
        time.sleep(0.05)
    assert (kubectl / "ended").exists()


def _stat(pid: int) -> list[str]:
    """Its state, its parent and so on; state X = there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X"]


def hear_signals() -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def test_a_forward_that_ends_is_told(kubectl: pathlib.Path) -> None:
    watching = subprocess.Popen(
        [programs.PENSTOCK, "watch", "-p", "demo", "--kube", "--request-timeout", "1"],
        env=environment(kubectl),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert "RUNNING" in watching.stdout.readline()
    os.kill(int((kubectl / "pid").read_text()), signal.SIGKILL)
    began = time.monotonic()
    _, said = watching.communicate(timeout=30)
    assert watching.returncode == 3
    assert "port-forward to penstock-dispatcher has ended" in said
    assert "run the command again" in said
    assert len(said.splitlines()) == 1
    assert time.monotonic() - began < 20
