"""A port of this machine that leads to a Service, for as long as it is needed.

`kubectl port-forward` chooses a pod when it starts and ends when that pod does. This one is started
again until it is closed, always on the same local port, so that a client keeps its address while
the dispatcher behind it is killed and comes back.
"""

import contextlib
import subprocess
import threading
from collections.abc import Mapping
from typing import Self

from rig import processes

RESTART_SECONDS = 0.2


class Forward:
    """Loopback to a Service. Use as a context manager."""

    def __init__(
        self, variables: Mapping[str, str], *, namespace: str, target: str, port: int
    ) -> None:
        self._variables = variables
        self._namespace = namespace
        self._target = target
        self._remote_port = port
        self._local_port = processes.free_port()
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"forward {target}", daemon=True)
        self.last_words = ""

    @property
    def address(self) -> str:
        """host:port, the same for the whole life of this object."""
        return f"127.0.0.1:{self._local_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(30):
            self.close()
            raise RuntimeError(f"port-forward to {self._target} does not start: {self.last_words}")
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it for good."""
        self._closed.set()
        if self._process is not None:
            processes.stop(self._process)
        self._thread.join(10)

    def _keep(self) -> None:
        command = [
            "kubectl",
            "port-forward",
            "--namespace",
            self._namespace,
            self._target,
            f"{self._local_port}:{self._remote_port}",
        ]
        while not self._closed.is_set():
            self._process = processes.start(command, self._variables)
            self._read(self._process)
            processes.stop(self._process)
            self._closed.wait(RESTART_SECONDS)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        # The pipe is closed under us when the forward is closed.
        with contextlib.suppress(ValueError):
            for line in process.stdout:
                self.last_words = line.strip()
                if line.startswith("Forwarding from 127.0.0.1"):
                    self._ready.set()
                if "lost connection to pod" in line:
                    return
