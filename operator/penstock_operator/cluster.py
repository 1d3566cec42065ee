"""Everything the operator asks of the Kubernetes API; the only module that knows its client.

Least rights that it needs (watches are kopf's, with the same credentials):

  in every served namespace (Role)
    penstock.dev          workerpools           get, list, watch, patch
    penstock.dev          workerpools/status    patch
    apps                  deployments           get, list, watch, create, delete
    apps                  deployments/scale     update
    (core)                pods                  get, list, watch, patch
    events.k8s.io         events                create
    coordination.k8s.io   leases                get, list, watch, create, update
        only `penstock-operator-watch`; `create` cannot be limited to a name
  in the operator's own namespace (Role)
    coordination.k8s.io   leases                get, create, update
        only `penstock-operator` (--lease-name); `create` cannot be limited to a name

`workerpools: patch` writes the first spec.replicas in mode External and nothing else; `pods:
patch` the deletion cost; `pods: get` finds out whether a worker that seems to have ended has.
Replicas are written through the scale subresource, so no right to change a template is needed.
Never Secrets, never exec. Nothing cluster-wide but discovery, which every service account may do.

Writes to a Deployment carry the resourceVersion they were decided on. A conflict is the caller's
business: look again, decide again. What may pass by itself (429, 5xx, a broken connection) is
tried again with full jitter, a bounded number of times, and only where doing it twice does no
harm.
"""

import asyncio
import dataclasses
import json
import pathlib
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config

from penstock_operator import observed

ATTEMPTS_MAX: Final = 5
BACKOFF_SECONDS: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0
REQUEST_SECONDS_MAX: Final = 15.0
LEASE_SECONDS_MAX: Final = 4.0
"""A Lease that cannot be renewed in time is lost; its requests must not take that long."""
CONNECT_SECONDS_MAX: Final = 5.0
CONNECTIONS_MAX: Final = 20
IN_CLUSTER_TOKEN: Final = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
MERGE_PATCH: Final = "application/merge-patch+json"
GROUP: Final = "/apis/penstock.dev/v1alpha1"

Body = Mapping[str, Any]


class ApiError(Exception):
    """Kubernetes said no, or nothing. `status` 0 = no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Conflict(ApiError):  # noqa: N818  the word that Kubernetes uses
    """The object is not what the write was decided on, or exists already."""


class NotFound(ApiError):  # noqa: N818  the word that Kubernetes uses
    """There is no such object."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """A LIST: its items, and the resourceVersion at which it is complete."""

    items: tuple[Body, ...]
    version: str


class Cluster:
    """A connection to the API server. `observe(verb, resource, status, seconds)` hears of every
    request.
    """

    def __init__(
        self, api: Any, *, observe: Callable[[str, str, int, float], None] = lambda *_: None
    ) -> None:
        self._api = api
        self._observe = observe

    @classmethod
    async def connect(
        cls, *, observe: Callable[[str, str, int, float], None] = lambda *_: None
    ) -> "Cluster":
        """With the pod's service account, or else as the kubeconfig says."""
        configuration = client.Configuration()
        if IN_CLUSTER_TOKEN.exists():
            config.load_incluster_config(  # type: ignore[no-untyped-call]  # has no types
                client_configuration=configuration
            )
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]  # has no types
                client_configuration=configuration
            )
        configuration.connection_pool_maxsize = CONNECTIONS_MAX
        return cls(client.ApiClient(configuration), observe=observe)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    # ------------------------------------------------------------ pools

    async def check_resource(self) -> None:
        """Raises NotFound where the WorkerPool resource is not installed."""
        await self._request("GET", GROUP, "workerpools", safe=True)

    async def list_pools(self, namespace: str) -> Listing:
        """All WorkerPools of a namespace."""
        return await self._list(f"{GROUP}/namespaces/{namespace}/workerpools", "workerpools")

    async def patch_pool_status(self, namespace: str, name: str, *, uid: str, patch: Body) -> Body:
        """Merge into the status of exactly this pool."""
        return await self._request(
            "PATCH",
            f"{GROUP}/namespaces/{namespace}/workerpools/{name}/status",
            "workerpools/status",
            body={"metadata": {"uid": uid}, "status": patch},
            content_type=MERGE_PATCH,
            safe=True,
        )

    async def patch_pool_replicas(
        self, namespace: str, name: str, *, uid: str, replicas: int
    ) -> Body:
        """Write spec.replicas of exactly this pool."""
        return await self._request(
            "PATCH",
            f"{GROUP}/namespaces/{namespace}/workerpools/{name}",
            "workerpools",
            body={"metadata": {"uid": uid}, "spec": {"replicas": replicas}},
            content_type=MERGE_PATCH,
            safe=True,
        )

    # ------------------------------------------------------------ Deployments

    async def list_deployments(self, namespace: str) -> Listing:
        """The Deployments of all pools of a namespace."""
        return await self._list(
            _deployments(namespace), "deployments", selector=observed.POOL_LABEL
        )

    async def get_deployment(self, namespace: str, name: str) -> Body:
        """One Deployment."""
        return await self._request(
            "GET", f"{_deployments(namespace)}/{name}", "deployments", safe=True
        )

    async def create_deployment(self, namespace: str, body: Body) -> Body:
        """Create it; Conflict = the name is taken (perhaps by an earlier try of ours)."""
        return await self._request(
            "POST", _deployments(namespace), "deployments", body=body, safe=True
        )

    async def scale_deployment(
        self, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> str:
        """Set replicas if the Deployment still is that version. Answers with the new version."""
        answer = await self._request(
            "PUT",
            f"{_deployments(namespace)}/{name}/scale",
            "deployments/scale",
            body={
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "resourceVersion": resource_version,
                },
                "spec": {"replicas": replicas},
            },
            safe=True,
        )
        return str(answer["metadata"]["resourceVersion"])

    async def delete_deployment(
        self, namespace: str, name: str, *, uid: str, resource_version: str
    ) -> None:
        """Delete exactly this version of it; what it owns goes in the background."""
        await self._request(
            "DELETE",
            f"{_deployments(namespace)}/{name}",
            "deployments",
            body={
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": "Background",
                "preconditions": {"uid": uid, "resourceVersion": resource_version},
            },
            safe=True,
        )

    # ------------------------------------------------------------ pods

    async def list_pods(self, namespace: str, *, selector: str = observed.POOL_LABEL) -> Listing:
        """Worker pods of a namespace, as they are now (a consistent read)."""
        return await self._list(_pods(namespace), "pods", selector=selector)

    async def get_pod(self, namespace: str, name: str) -> Body:
        """One pod, whatever labels it has."""
        return await self._request("GET", f"{_pods(namespace)}/{name}", "pods", safe=True)

    async def mark_pod(self, namespace: str, name: str) -> Body:
        """Give a pod the lowest deletion cost."""
        costs = {observed.DELETION_COST: observed.LOWEST_DELETION_COST}
        return await self._request(
            "PATCH",
            f"{_pods(namespace)}/{name}",
            "pods",
            body={"metadata": {"annotations": costs}},
            content_type=MERGE_PATCH,
            safe=True,
        )

    # ------------------------------------------------------------ Events, Leases

    async def create_event(self, namespace: str, body: Body) -> None:
        """Post an Event. Not tried again: it is news, not truth."""
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        await self._request("POST", path, "events", body=body, safe=False)

    async def get_lease(self, namespace: str, name: str) -> Body | None:
        """The Lease; None = there is none."""
        try:
            return await self._request(
                "GET",
                f"{_leases(namespace)}/{name}",
                "leases",
                seconds_max=LEASE_SECONDS_MAX,
                safe=False,
            )
        except NotFound:
            return None

    async def write_lease(self, namespace: str, body: Body, *, create: bool) -> Body:
        """Create or replace it; Conflict = somebody else was faster. Not tried again."""
        name = body["metadata"]["name"]
        path = _leases(namespace) if create else f"{_leases(namespace)}/{name}"
        return await self._request(
            "POST" if create else "PUT",
            path,
            "leases",
            body=body,
            seconds_max=LEASE_SECONDS_MAX,
            safe=False,
        )

    # ------------------------------------------------------------ requests

    async def _list(self, path: str, resource: str, *, selector: str = "") -> Listing:
        query = [("labelSelector", selector)] if selector else []
        answer = await self._request("GET", path, resource, query=query, safe=True)
        return Listing(
            items=tuple(answer.get("items") or ()),
            version=str((answer.get("metadata") or {}).get("resourceVersion", "")),
        )

    async def _request(
        self,
        method: str,
        path: str,
        resource: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
        seconds_max: float = REQUEST_SECONDS_MAX,
        safe: bool,
    ) -> Body:
        """One request; `safe` = doing it twice does no harm, so that it may be tried again."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            started = time.perf_counter()
            status, text, retry_after = await self._send(
                method, path, query, body, content_type, seconds_max
            )
            self._observe(method, resource, status, time.perf_counter() - started)
            if 200 <= status < 300:
                answer: Body = json.loads(text) if text else {}
                return answer
            passing = status in (0, 429) or status >= 500
            if not passing or not safe or attempt == ATTEMPTS_MAX:
                raise _error(method, path, status, text)
            longest = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS * 2.0**attempt)
            await asyncio.sleep(retry_after + random.uniform(0, longest))
        raise AssertionError("the last attempt returns or raises")

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None,
        body: Body | None,
        content_type: str,
        seconds_max: float,
    ) -> tuple[int, str, float]:
        serialized = await self._api.param_serialize(
            method,
            path,
            query_params=query,
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        time_out = aiohttp.ClientTimeout(
            total=seconds_max, sock_connect=min(seconds_max, CONNECT_SECONDS_MAX)
        )
        try:
            response = await self._api.call_api(*serialized, _request_timeout=time_out)
            text = (await response.read()).decode()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}", 0.0
        try:
            retry_after = float(response.getheader("Retry-After") or 0)
        except ValueError:
            retry_after = 0.0
        return int(response.status), text, min(retry_after, BACKOFF_SECONDS_MAX)


def _error(method: str, path: str, status: int, text: str) -> ApiError:
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        message = text
    if status == 404:
        return NotFound(status, f"{path} was not found: {message}")
    if status == 409:
        return Conflict(status, message)
    what = f"HTTP {status}" if status else "no answer"
    return ApiError(status, f"Kubernetes refused {method} {path}: {message} ({what})")


def _deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def _leases(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
