"""Which dispatcher is meant, from what the user has said.

An option wins over the environment, and whoever says nothing gets what runs here: in this order

1. `--address`
2. `--kube`, or the name of the program (`kubectl penstock`)
3. PENSTOCK_ADDRESS
4. what runs on this machine (`LOCAL`): the fleet of `penstock up`
5. PENSTOCK_KUBE=1
6. 127.0.0.1:50051
"""

import contextlib
import dataclasses
import enum
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click
from click.core import ParameterSource

from penstock.cli import failures, forwarding


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Where to call, and the pool that is meant when none is named (None = PENSTOCK_POOL)."""

    address: str
    pool: str | None = None


def local_fleet() -> Found | None:
    """The local fleet that runs, and its pool if it has one only. Raises InputError for several."""
    from penstock_operator.local import state

    fleets = [record for _, record in state.running(os.environ) if record.address]
    if len(fleets) > 1:
        known = ", ".join(f"{each.address} ({', '.join(each.pools)})" for each in fleets)
        raise failures.InputError(f"several local fleets run: say --address with one of {known}")
    if not fleets:
        return None
    [fleet] = fleets
    only = len(fleet.pools) == 1 and "PENSTOCK_POOL" not in os.environ
    return Found(fleet.address, pool=fleet.pools[0] if only else None)


Look = Callable[[], Found | None]
LOCAL: Final[tuple[Look, ...]] = (local_fleet,)
"""Each may know a dispatcher that runs on this machine; the first that does is believed."""


class Said(enum.Enum):
    """How the user has said something."""

    OPTION = enum.auto()
    ENVIRONMENT = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user has said. `…_by` None = nothing; `address` is then the default."""

    address: str
    address_by: Said | None
    kube_by: Said | None
    kube_implied: bool = False
    kube_namespace: str | None = None


def said(context: click.Context, parameter: str) -> Said | None:
    """How a parameter of the command came by its value."""
    match context.get_parameter_source(parameter):
        case ParameterSource.COMMANDLINE:
            return Said.OPTION
        case ParameterSource.ENVIRONMENT:
            return Said.ENVIRONMENT
    return None


def dispatcher(wanted: Wanted) -> contextlib.AbstractContextManager[Found]:
    """The dispatcher to call, for the length of a block. Raises InputError for contradictions,
    NoDispatcherError if the kube context leads to none.
    """
    found = choose(wanted, local=LOCAL)
    if found is None:
        return _forwarded(wanted.kube_namespace)
    if wanted.kube_namespace is not None:
        raise failures.InputError(
            "--kube-namespace is for a dispatcher in a cluster: add --kube, or leave it out"
        )
    return contextlib.nullcontext(found)


@contextlib.contextmanager
def _forwarded(namespace: str | None) -> Iterator[Found]:
    with forwarding.forwarded(namespace) as address:
        yield Found(address)


def choose(wanted: Wanted, *, local: Sequence[Look]) -> Found | None:
    """The order above; None = through the kube context."""
    if wanted.address_by is Said.OPTION:
        if wanted.kube_by is Said.OPTION:
            raise failures.InputError("give --address or --kube, not both")
        return Found(wanted.address)
    if wanted.kube_by is Said.OPTION or wanted.kube_implied:
        return None
    if wanted.address_by is Said.ENVIRONMENT:
        return Found(wanted.address)
    for look in local:
        found = look()
        if found is not None:
            return found
    return None if wanted.kube_by is Said.ENVIRONMENT else Found(wanted.address)
