"""Who a worker says it is, in every Hello."""

from collections.abc import Iterable

from penstock_worker import _version, session, settings


def of(types: Iterable[str], config: settings.Settings) -> session.Identity:
    """A worker that runs these task types (none = any), as configured."""
    return session.Identity(
        pool=config.pool,
        pool_uid=config.pool_uid,
        pod_name=config.pod_name,
        pod_uid=config.pod_uid,
        slots=config.slots,
        task_types=tuple(types),
        revision=config.revision,
        sdk_version=f"python/{_version.version()}",
    )
