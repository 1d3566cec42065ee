"""Everything that the pods of a selector say, from their first line to their last.

Pods come and go during a test, and kubelet removes the log of a pod soon after it has gone. So each
pod is followed from its creation, each life of its container too, and every line is kept with the
time at which the container wrote it.
"""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from rig import kube

WATCH_SECONDS_MAX = 600
RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Line:
    """One line of one pod's container."""

    pod: str
    pod_uid: str
    #: RFC 3339, as the node wrote it.
    time: str
    text: str


class Lives:
    """How much was read of each life of one container.

    A log is opened by the pod's name and read from its start, and what is opened may be the next
    life already: a killed container is back before the API says so. So a life is told by its first
    line, and what was read of it by number. Times would not do for that: standard output and
    standard error are stamped apart, out of order.
    """

    def __init__(self) -> None:
        self._read: dict[Line, int] = {}

    def unread(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Those of `lines`, a log from its start, that were not given out before."""
        first = None
        for number, line in enumerate(lines, start=1):
            first = first or line
            if number > self._read.get(first, 0):
                self._read[first] = number
                yield line


class Collector:
    """Follows all pods of a selector, in threads, until it is closed. Use as a context manager."""

    def __init__(self, api: kube.Kube, *, namespace: str, selector: str, container: str) -> None:
        self._api = api
        self._namespace = namespace
        self._selector = selector
        self._container = container
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._pods: dict[str, kube.Object] = {}
        self._followers: dict[str, threading.Thread] = {}
        self._watcher = threading.Thread(target=self._watch, name="pod watch", daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following. Lines collected so far stay."""
        self._closed.set()

    def lines(self, containing: str = "") -> list[Line]:
        """What was said so far, in order of arrival."""
        with self._lock:
            return [line for line in self._lines if containing in line.text]

    def pods_seen(self) -> dict[str, str]:
        """Every pod there has been: UID to name."""
        with self._lock:
            return {uid: pod["metadata"]["name"] for uid, pod in self._pods.items()}

    def settle(self, *, seconds: float) -> None:
        """Wait until the followers of all pods that have gone have read their last line."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            living = {
                pod["metadata"]["uid"] for pod in self._api.pods(self._namespace, self._selector)
            }
            with self._lock:
                behind = [
                    uid
                    for uid, thread in self._followers.items()
                    if uid not in living and thread.is_alive()
                ]
            if not behind:
                return
            time.sleep(RETRY_SECONDS)
        raise kube.NotYetError(f"logs of pods that have gone are still read: {behind}")

    # ---- the watch

    def _watch(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        while not self._closed.is_set():
            try:
                listed = self._api.get(path, labelSelector=self._selector)
                for pod in listed["items"]:
                    self._see(pod)
                self._stream(path, listed["metadata"]["resourceVersion"])
            except (OSError, http.client.HTTPException, RuntimeError, ValueError):
                self._closed.wait(RETRY_SECONDS)

    def _stream(self, path: str, version: str) -> None:
        query = {
            "labelSelector": self._selector,
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS_MAX),
        }
        with self._api.response(path, query, timeout_seconds=WATCH_SECONDS_MAX) as answer:
            for raw in answer:
                change = json.loads(raw)
                if self._closed.is_set() or change["type"] == "ERROR":
                    return
                self._see(change["object"], gone=change["type"] == "DELETED")

    def _see(self, pod: kube.Object, *, gone: bool = False) -> None:
        uid = pod["metadata"]["uid"]
        with self._lock:
            self._pods[uid] = {**pod, "gone": gone}
            if uid in self._followers:
                return
            follower = threading.Thread(target=self._follow, args=(uid,), daemon=True)
            self._followers[uid] = follower
        follower.start()

    # ---- one pod

    def _follow(self, uid: str) -> None:
        """Read one life of the container after the other until the pod has gone."""
        lives = Lives()
        while not self._closed.is_set():
            with self._lock:
                pod = self._pods[uid]
            if _has_log(pod, self._container):
                self._read(pod, lives)
            if pod["gone"]:
                return
            self._closed.wait(RETRY_SECONDS)

    def _read(self, pod: kube.Object, lives: Lives) -> None:
        """Read what there is until the container ends or the stream breaks."""
        refused = (OSError, http.client.HTTPException, kube.NotFoundError, RuntimeError)
        with contextlib.suppress(*refused):
            for line in lives.unread(self._stream_lines(pod)):
                with self._lock:
                    self._lines.append(line)

    def _stream_lines(self, pod: kube.Object) -> Iterator[Line]:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        path = f"/api/v1/namespaces/{self._namespace}/pods/{name}/log"
        query = {"container": self._container, "follow": "true", "timestamps": "true"}
        with self._api.response(path, query, timeout_seconds=WATCH_SECONDS_MAX) as answer:
            for raw in answer:
                when, _, text = raw.decode(errors="replace").rstrip("\n").partition(" ")
                yield Line(name, uid, when, text)


def _has_log(pod: kube.Object, container: str) -> bool:
    """Whether a life of the container can be read now: it runs, or it has ended for good."""
    return any(
        status["name"] == container and "waiting" not in status["state"]
        for status in pod.get("status", {}).get("containerStatuses", [])
    )
