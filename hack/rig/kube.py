"""The cluster's API: kubectl and helm as a user types them, reads through a proxy.

A `kubectl` takes a tenth of a second of a core, which tests that look several times a second cannot
afford. So reads go over HTTP to one `kubectl proxy` on loopback, which also knows every way a
kubeconfig can log in.
"""

import contextlib
import http.client
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from rig import processes

#: A Kubernetes object, as JSON gives it.
Object = dict[str, Any]
T = TypeVar("T")

WORKERS = "app.kubernetes.io/name=penstock-worker"
POLL_SECONDS = 0.2


class CommandError(Exception):
    """A kubectl or helm that failed, with what it said."""


class NotFoundError(Exception):
    """No such object."""


class NotYetError(AssertionError):
    """What was waited for did not come; the text says what was seen instead."""


class Kube:
    """One cluster."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self._proxy: subprocess.Popen[str] | None = None
        self._port = 0

    # ---- programs

    def run(self, *command: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        """Run a program in the cluster's environment; its standard output."""
        done = subprocess.run(
            command,
            env=self.variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode != 0:
            raise CommandError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(
        self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120
    ) -> str:
        """Run kubectl."""
        return self.run("kubectl", *arguments, stdin=stdin, timeout_seconds=timeout_seconds)

    def helm(self, *arguments: str, timeout_seconds: float = 180) -> str:
        """Run helm."""
        return self.run("helm", *arguments, timeout_seconds=timeout_seconds)

    def apply(self, *objects: Object, namespace: str = "default") -> str:
        """`kubectl apply` objects."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=text)

    # ---- reads through the proxy

    @contextlib.contextmanager
    def response(
        self, path: str, query: Mapping[str, str], *, timeout_seconds: float = 30
    ) -> Iterator[http.client.HTTPResponse]:
        """An open GET, for streams.

        Raises NotFoundError for 404, RuntimeError for other refusals.
        """
        self._ensure_proxy()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_seconds)
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
            answer = connection.getresponse()
            if answer.status == http.HTTPStatus.NOT_FOUND:
                raise NotFoundError(path)
            if answer.status >= http.HTTPStatus.BAD_REQUEST:
                raise RuntimeError(f"{path}: {answer.status} {answer.read(500)!r}")
            yield answer
        finally:
            connection.close()

    def get(self, path: str, **query: str) -> Object:
        """One object or list, by its path under the API's root."""
        with self.response(path, query) as answer:
            found: Object = json.loads(answer.read())
            return found

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        """Pods, those on their way out included."""
        items: list[Object] = self.get(
            f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector
        )["items"]
        return items

    def deployments(self, namespace: str, selector: str = "") -> list[Object]:
        """Deployments."""
        items: list[Object] = self.get(
            f"/apis/apps/v1/namespaces/{namespace}/deployments", labelSelector=selector
        )["items"]
        return items

    def pool(self, namespace: str, name: str) -> Object:
        """A WorkerPool."""
        return self.get(f"/apis/penstock.dev/v1alpha1/namespaces/{namespace}/workerpools/{name}")

    def events(self, namespace: str, kind: str, name: str) -> list[Object]:
        """Events about one object, oldest first."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        items = self.get(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector)["items"]
        return sorted(items, key=lambda event: event["metadata"]["creationTimestamp"])

    # ---- waiting

    def wait(self, what: str, probe: Callable[[], T], *, seconds: float) -> T:
        """The first truthy answer of `probe`; a missing object counts as no answer."""
        deadline = time.monotonic() + seconds
        last: object = None
        while True:
            with contextlib.suppress(NotFoundError):
                last = answer = probe()
                if answer:
                    return answer
            if time.monotonic() > deadline:
                raise NotYetError(f"waited {seconds:.0f} s for {what}; last seen: {last!r}")
            time.sleep(POLL_SECONDS)

    # ---- the proxy

    def close(self) -> None:
        """End the proxy."""
        if self._proxy is not None:
            processes.stop(self._proxy)
            self._proxy = None

    def _ensure_proxy(self) -> None:
        if self._proxy is not None and self._proxy.poll() is None:
            return
        # The filter is on: it keeps other hosts from using the proxy; logs and lists pass.
        process = processes.start(["kubectl", "proxy", "--port=0"], self.variables)
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r":(\d+)\s*$", said)
        if found is None:
            processes.stop(process)
            raise RuntimeError(f"kubectl proxy did not start: {said}")
        self._proxy, self._port = process, int(found[1])


def is_ready(pod: Object) -> bool:
    """Whether a pod is Ready and not on its way out."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", [])
    )


def condition(resource: Object, kind: str) -> Object:
    """A condition of an object; an empty one when it has none of that kind."""
    for one in resource.get("status", {}).get("conditions", []):
        if one["type"] == kind:
            found: Object = one
            return found
    return {}
