"""What kopf calls. Every handler hands the event to the hub and returns.

Kopf watches, relists after a 410, reconnects and logs in; it decides nothing here. `on.event`
handlers only: no finalizer, no daemon, no timer, no last-handled annotation, no Events of its
own, no peering. So kopf never writes. Only objects that carry our labels are watched, on the
server's side.

An event without a type is from a list, with which a watch begins, at first and after a 410: what
was deleted before it has no event, so the hub reads again.
"""

from typing import Any, Final

import kopf

from penstock_operator import hub, observed, watchdog

SERVER_SECONDS: Final = 240
CLIENT_SECONDS: Final = 270
CONNECT_SECONDS: Final = 5


def configure(settings: kopf.OperatorSettings) -> None:
    """Kopf's settings."""
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = SERVER_SECONDS
    settings.watching.client_timeout = CLIENT_SECONDS
    settings.watching.connect_timeout = CONNECT_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.request_timeout = 30
    for group, version, plural in (("apps", "v1", "deployments"), ("", "v1", "pods")):
        settings.watching.label_selectors[group, version, plural] = observed.POOL_LABEL
    settings.watching.field_selectors["coordination.k8s.io", "v1", "leases"] = (
        f"metadata.name={watchdog.NAME}"
    )


def register(registry: kopf.OperatorRegistry, *, pools: hub.Hub, guard: watchdog.Watchdog) -> None:
    """The handlers, in a registry of their own."""

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    def look(event: kopf.RawEvent) -> None:
        if event["type"] is None:
            pools.relisted()

    @kopf.on.event("penstock.dev", "v1alpha1", "workerpools", registry=registry)
    async def on_pool(event: kopf.RawEvent, **_: Any) -> None:
        look(event)
        pools.pool_event(event["type"], event["object"])

    @kopf.on.event("apps", "v1", "deployments", registry=registry)
    async def on_deployment(event: kopf.RawEvent, **_: Any) -> None:
        look(event)
        pools.deployment_event(event["type"], event["object"])

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def on_pod(event: kopf.RawEvent, **_: Any) -> None:
        look(event)
        pools.pod_event(event["type"], event["object"])

    @kopf.on.event("coordination.k8s.io", "v1", "leases", registry=registry)
    async def on_lease(event: kopf.RawEvent, **_: Any) -> None:
        meta = event["object"]["metadata"]
        guard.seen(meta["namespace"], meta["resourceVersion"])
