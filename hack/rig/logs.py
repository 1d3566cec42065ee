"""Everything that the pods of a selector say, from their first line to their last.

Pods come and go during a test, and kubelet removes the log of a pod soon after it has gone. So each
pod is followed from its creation, each life of its container too, and every line is kept with the
time at which the container wrote it.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from rig import kube

WATCH_SECONDS_MAX = 600
RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Line:
    """One line of one container's life."""

    pod: str
    pod_uid: str
    container_id: str
    #: RFC 3339, as the node wrote it.
    time: str
    text: str


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
        read = ""
        while not self._closed.is_set():
            with self._lock:
                pod = self._pods[uid]
            container = self._running(pod)
            if container and container != read:
                self._read(pod, container)
                read = container
            elif pod["gone"]:
                return
            else:
                self._closed.wait(RETRY_SECONDS)

    def _running(self, pod: kube.Object) -> str:
        """The id of the container's life that has a log now; empty while there is none."""
        for status in pod.get("status", {}).get("containerStatuses", []):
            if status["name"] == self._container and "waiting" not in status["state"]:
                return str(status.get("containerID", ""))
        return ""

    def _read(self, pod: kube.Object, container: str) -> None:
        """Read until the container has ended; a broken stream goes on after its last line.

        A log is read from its start each time, so what was read before is told by its number. Its
        time would not do: standard output and standard error are stamped apart, out of order.
        """
        uid = pod["metadata"]["uid"]
        read = 0
        while not self._closed.is_set():
            try:
                for number, line in enumerate(self._stream_lines(pod, container), start=1):
                    if number > read:
                        read = number
                        with self._lock:
                            self._lines.append(line)
            except kube.NotFoundError:
                return
            except (OSError, http.client.HTTPException, RuntimeError):
                self._closed.wait(RETRY_SECONDS)
            with self._lock:
                now = self._pods[uid]
            if now["gone"] or self._running(now) != container or _ended(now, self._container):
                return
            self._closed.wait(RETRY_SECONDS)

    def _stream_lines(self, pod: kube.Object, container: str) -> Iterator[Line]:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        path = f"/api/v1/namespaces/{self._namespace}/pods/{name}/log"
        query = {"container": self._container, "follow": "true", "timestamps": "true"}
        with self._api.response(path, query, timeout_seconds=WATCH_SECONDS_MAX) as answer:
            for raw in answer:
                when, _, text = raw.decode(errors="replace").rstrip("\n").partition(" ")
                yield Line(name, uid, container, when, text)


def _ended(pod: kube.Object, container: str) -> bool:
    return any(
        status["name"] == container and "terminated" in status["state"]
        for status in pod.get("status", {}).get("containerStatuses", [])
    )
