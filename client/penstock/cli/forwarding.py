"""A port of this machine that leads to the dispatcher of the current kube context.

Two runs of kubectl: one finds the Service by its labels, whatever the release is called; the other,
`port-forward`, lives as long as the block, on a port of 127.0.0.1 that it chooses itself. It is
ended by its process id: when the block ends, however it ends, and when SIGTERM or SIGHUP comes. A
small program stands in between (`keeping`), which ends it when this process is killed. Both are in
a session of their own, so that Ctrl-C reaches only the program that still needs them.
"""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import IO, Final

from penstock import errors
from penstock.cli import failures, keeping

FIND_SECONDS_MAX: Final = 20.0
START_SECONDS_MAX: Final = 20.0
END_SECONDS_MAX: Final = 5.0
WORDS_CHARACTERS_MAX: Final = 300

SELECTOR: Final = "app.kubernetes.io/part-of=penstock,app.kubernetes.io/component=dispatcher"
_NAMES_AND_PORTS: Final = (
    'jsonpath={range .items[*]}{.metadata.name} {.spec.ports[?(@.name=="grpc")].port}{"\\n"}{end}'
)
_FORWARDING: Final = re.compile(r"Forwarding from (127\.0\.0\.1:\d+) ")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_OR_ADDRESS: Final = "or name the dispatcher with --address"


@contextlib.contextmanager
def forwarded(namespace: str | None) -> Iterator[str]:
    """host:port for the length of the block; `namespace` None = that of the context.

    Raises NoDispatcherError where kubectl, the cluster or the dispatcher is missing.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise failures.NoDispatcherError(
            f"kubectl is not on PATH: --kube needs it: install it, {_OR_ADDRESS}"
        )
    where = [] if namespace is None else ["--namespace", namespace]
    name, port = _service(kubectl, where)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        # Forwarding to the port by number: the local one, left out, is any free one.
        forward = _Forward(
            [
                *(kubectl, "port-forward", *where, "--address", "127.0.0.1"),
                *(f"service/{name}", f":{port}"),
            ]
        )
        stack.callback(forward.close)
        address = forward.address()
        try:
            yield address
        except errors.Unavailable:
            if not forward.ended:
                raise
            raise failures.NoDispatcherError(
                f"kubectl port-forward to {name} has ended ({forward.last_words or 'silently'}): "
                "run the command again"
            ) from None


def _service(kubectl: str, where: list[str]) -> tuple[str, str]:
    """Name and gRPC port of the dispatcher's Service."""
    try:
        done = subprocess.run(
            [
                *(kubectl, "get", "services", *where, "--selector", SELECTOR),
                *("--output", _NAMES_AND_PORTS),
            ],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=FIND_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        raise failures.NoDispatcherError(
            f"kubectl gets no answer from the cluster in {FIND_SECONDS_MAX:g} s: check 'kubectl "
            f"cluster-info', {_OR_ADDRESS}"
        ) from None
    if done.returncode != 0:
        raise failures.NoDispatcherError(
            f"kubectl finds no dispatcher ({_last_line(done.stderr)}): check 'kubectl config "
            f"current-context', {_OR_ADDRESS}"
        )
    found = [line.split() for line in done.stdout.splitlines()]
    # Each dispatcher has a headless Service too, for itself.
    services = [pair for pair in found if len(pair) == 2 and not pair[0].endswith("-headless")]
    place = f"namespace {where[1]}" if where else "the namespace of the kube context"
    if not services:
        raise failures.NoDispatcherError(
            f"there is no dispatcher in {place}: name where Penstock is installed with "
            f"--kube-namespace, {_OR_ADDRESS}"
        )
    if len(services) > 1:
        names = ", ".join(name for name, _ in services)
        raise failures.NoDispatcherError(
            f"there are several dispatchers in {place} ({names}): forward a port to one with "
            "kubectl port-forward, and name it with --address"
        )
    name, port = services[0]
    return name, port


class _Forward:
    """One `kubectl port-forward`. What it says is read all the time: it must never wait for us."""

    def __init__(self, command: list[str]) -> None:
        self.last_words = ""
        self._address = ""
        self._told = threading.Event()
        self._process = subprocess.Popen(
            # Isolated, and without site packages: it starts at once, and imports nothing of ours.
            [sys.executable, "-I", "-S", keeping.__file__, *command],
            # Never written to: it ends with this process.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="penstock-forward", daemon=True
        )
        self._reader.start()

    @property
    def ended(self) -> bool:
        """It does not run any more."""
        return self._process.poll() is not None

    def address(self) -> str:
        """Where it listens, once it does. Raises NoDispatcherError."""
        in_time = self._told.wait(START_SECONDS_MAX)
        if self._address:
            return self._address
        why = self.last_words or ("it has ended" if in_time else "it says nothing")
        raise failures.NoDispatcherError(
            f"kubectl port-forward does not start ({why}): check that the dispatcher's pod runs, "
            f"{_OR_ADDRESS}"
        )

    def close(self) -> None:
        """End it, gently and then not."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(END_SECONDS_MAX)

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                found = _FORWARDING.match(line)
                if found is not None:
                    self._address = found[1]
                    self._told.set()
                else:
                    self.last_words = _last_line(line)
        self._told.set()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Signals that would end this process at once unwind it instead, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = [(each, signal.signal(each, leave)) for each in _SIGNALS]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:WORDS_CHARACTERS_MAX] if lines else "it says nothing"
