"""The operator's picture of its pools' objects.

Watches, LISTs and answers to writes fill it; reconciles read it. An object is replaced only by a
newer one of itself. So a watch event that was on its way while we wrote cannot take the picture
back to before our write: what we wrote last *is* what was last observed. An object that was
deleted stays deleted (`_graves`), even if a LIST made earlier arrives later; and a LIST, which is
complete, takes away what a watch has missed. Pure: a data structure, no I/O, no clock.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from penstock_operator import observed

GRAVES_MAX: Final = 10_000
T = TypeVar("T")


class Key(NamedTuple):
    """A pool."""

    namespace: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Owned(Generic[T]):
    """An object, and the UID of the pool that it belongs to."""

    value: T
    pool_uid: str


class Store:
    """Pools, Deployments and pods of the served namespaces."""

    def __init__(self) -> None:
        self.pools: dict[Key, Mapping[str, Any]] = {}
        self._deployments: dict[Key, dict[str, _Owned[observed.Deployment]]] = {}
        self._pods: dict[Key, dict[str, _Owned[observed.Pod]]] = {}
        self._graves: collections.OrderedDict[str, None] = collections.OrderedDict()

    # ------------------------------------------------------------ pools

    def put_pool(self, body: Mapping[str, Any]) -> Key | None:
        """A pool as it is now. None = nothing new."""
        key = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        old = self.pools.get(key)
        if self._buried(body) or (
            old is not None
            and _uid(old) == _uid(body)
            and not observed.is_newer(_version(body), _version(old))
        ):
            return None
        self.pools[key] = body
        return key

    def drop_pool(self, body: Mapping[str, Any]) -> Key | None:
        """A pool that is gone. None = it was not the one we know by that name."""
        self._bury(_uid(body))
        key = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        known = self.pools.get(key)
        if known is None or _uid(known) != _uid(body):
            return None
        del self.pools[key]
        return key

    # ------------------------------------------------------------ Deployments

    def put_deployment(self, body: Mapping[str, Any]) -> Key | None:
        """A Deployment as it is now. None = nothing new, or none of ours."""
        key = _key_of(body)
        if key is None or self._buried(body):
            return None
        value = observed.deployment_of(body)
        known = self._deployments.setdefault(key, {})
        old = known.get(value.name)
        if (
            old is not None
            and old.value.uid == value.uid
            and not observed.is_newer(value.resource_version, old.value.resource_version)
        ):
            return None
        known[value.name] = _Owned(value=value, pool_uid=observed.controller_uid(body))
        return key

    def drop_deployment(self, body: Mapping[str, Any]) -> Key | None:
        """A Deployment that is gone."""
        key = _key_of(body)
        self._bury(_uid(body))
        if key is None:
            return None
        self.forget_deployment(key, name=body["metadata"]["name"], uid=_uid(body))
        return key

    def forget_deployment(self, key: Key, *, name: str, uid: str) -> None:
        """A Deployment that was not found."""
        self._bury(uid)
        known = self._deployments.get(key, {})
        if name in known and known[name].value.uid == uid:
            del known[name]

    def scaled(self, key: Key, *, name: str, replicas: int, resource_version: str) -> None:
        """Our write of replicas was accepted, and made this version."""
        known = self._deployments.get(key, {})
        if name in known:
            value = dataclasses.replace(
                known[name].value, replicas=replicas, resource_version=resource_version
            )
            known[name] = dataclasses.replace(known[name], value=value)

    # ------------------------------------------------------------ pods

    def put_pod(self, body: Mapping[str, Any]) -> Key | None:
        """A pod as it is now. None = nothing new, or none of ours."""
        key = _key_of(body)
        if key is None or self._buried(body):
            return None
        value = observed.pod_of(body)
        known = self._pods.setdefault(key, {})
        old = known.get(value.uid)
        if old is not None and not observed.is_newer(
            value.resource_version, old.value.resource_version
        ):
            return None
        uid = observed.labels_of(body).get(observed.POOL_UID_LABEL, "")
        known[value.uid] = _Owned(value=value, pool_uid=uid)
        return key

    def drop_pod(self, body: Mapping[str, Any]) -> Key | None:
        """A pod that is gone."""
        key = _key_of(body)
        self._bury(_uid(body))
        if key is not None:
            self._pods.get(key, {}).pop(_uid(body), None)
        return key

    def revive_pod(self, body: Mapping[str, Any]) -> Key | None:
        """A pod that was taken for gone and lives. None = it does not say whose it is."""
        self._graves.pop(_uid(body), None)
        return self.put_pod(body)

    def forget_pod(self, key: Key, *, name: str) -> None:
        """A pod that was not found."""
        for uid, each in list(self._pods.get(key, {}).items()):
            if each.value.name == name:
                del self._pods[key][uid]
                self._bury(uid)

    # ------------------------------------------------------------ reading

    def deployments_of(self, key: Key, *, uid: str) -> tuple[observed.Deployment, ...]:
        """Deployments that the pool of this UID controls."""
        known = self._deployments.get(key, {}).values()
        return tuple(each.value for each in known if each.pool_uid == uid)

    def pods_of(self, key: Key, *, uid: str) -> tuple[observed.Pod, ...]:
        """Pods of the pool of this UID."""
        known = self._pods.get(key, {}).values()
        return tuple(each.value for each in known if each.pool_uid == uid)

    # ------------------------------------------------------------ LISTs

    def missing_pools(
        self, namespace: str, listed: Iterable[Mapping[str, Any]], *, version: str
    ) -> list[Mapping[str, Any]]:
        """Pools that a LIST of their namespace does not have: a watch has missed their end."""
        there = {_uid(body) for body in listed}
        return [
            body
            for key, body in self.pools.items()
            if key.namespace == namespace
            and _uid(body) not in there
            and not observed.is_newer(_version(body), version)
        ]

    def prune_deployments(
        self, namespace: str, listed: Iterable[Mapping[str, Any]], *, version: str
    ) -> set[Key]:
        """Take away what a LIST does not have. Answers with the pools it was taken from."""
        there = {_uid(body) for body in listed}
        touched = set()
        for key, known in self._deployments.items():
            for name, each in list(known.items()):
                gone = each.value.uid not in there
                if (
                    key.namespace == namespace
                    and gone
                    and not observed.is_newer(each.value.resource_version, version)
                ):
                    del known[name]
                    touched.add(key)
        return touched

    def missing_pods(
        self,
        namespace: str,
        listed: Iterable[Mapping[str, Any]],
        *,
        version: str,
        only: Key | None = None,
    ) -> list[tuple[Key, observed.Pod]]:
        """Take away pods that a LIST (of a namespace, or of `only` one pool) does not have."""
        there = {_uid(body) for body in listed}
        found = []
        for key, known in self._pods.items():
            if key.namespace != namespace or (only is not None and key != only):
                continue
            for uid, each in list(known.items()):
                if uid not in there and not observed.is_newer(each.value.resource_version, version):
                    del known[uid]
                    self._bury(uid)
                    found.append((key, each.value))
        return found

    # ------------------------------------------------------------ graves

    def _bury(self, uid: str) -> None:
        self._graves[uid] = None
        if len(self._graves) > GRAVES_MAX:
            self._graves.popitem(last=False)

    def _buried(self, body: Mapping[str, Any]) -> bool:
        return _uid(body) in self._graves


def _uid(body: Mapping[str, Any]) -> str:
    return str(body["metadata"].get("uid", ""))


def _version(body: Mapping[str, Any]) -> str:
    return str(body["metadata"].get("resourceVersion", ""))


def _key_of(body: Mapping[str, Any]) -> Key | None:
    pool = observed.labels_of(body).get(observed.POOL_LABEL)
    return Key(body["metadata"]["namespace"], pool) if pool else None
