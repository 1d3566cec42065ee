"""Where the dispatcher is and who we are: the options that every command shares."""

import functools
import os
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

import penstock
from penstock import _settings
from penstock.cli import failures

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_OPTIONS = (
    click.option(
        "--address",
        envvar="PENSTOCK_ADDRESS",
        metavar="HOST:PORT",
        show_envvar=True,
        help="The dispatcher; default: the local fleet that runs ('penstock up'), else "
        f"{_settings.DEFAULT_ADDRESS}.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="Holds the bearer token; default $PENSTOCK_TOKEN, then $PENSTOCK_TOKEN_FILE.",
    ),
    click.option(
        "--request-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a call may take, its retries included.",
    ),
)

pool = click.option(
    "-p",
    "--pool",
    envvar="PENSTOCK_POOL",
    show_envvar=True,
    metavar="POOL",
    help="The pool: 'pool' (in namespace default), 'namespace/pool', or its full name.",
)


def connected(
    command: Callable[Concatenate[penstock.SyncClient, _Arguments], _Result],
) -> Callable[..., _Result]:
    """Give a command the connection's options, and a client made of them as first argument."""

    @functools.wraps(command)
    def wrapped(
        *positional: Any,
        address: str | None,
        token_file: str | None,
        request_timeout: float,
        **named: Any,
    ) -> _Result:
        only = None
        if address is None:
            address, only = _local()
        # For the line that an error becomes.
        click.get_current_context().find_root().obj = address
        try:
            client = penstock.SyncClient(
                address, token_file=token_file, pool=only, timeout=request_timeout
            )
        except ValueError as error:
            raise failures.InputError(f"{error}: see --address") from None
        with client:
            return command(client, *positional, **named)

    decorated: Callable[..., _Result] = wrapped
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _local() -> tuple[str, str | None]:
    """The address of the local fleet that runs, or the default one; and its pool, if no other one
    is meant.
    """
    from penstock_operator.local import state

    fleets = [record for _, record in state.running(os.environ) if record.address]
    if len(fleets) > 1:
        addresses = ", ".join(f"{each.address} ({', '.join(each.pools)})" for each in fleets)
        raise failures.InputError(
            f"several local fleets run: say --address with one of {addresses}"
        )
    if not fleets:
        return _settings.DEFAULT_ADDRESS, None
    [fleet] = fleets
    only = len(fleet.pools) == 1 and "PENSTOCK_POOL" not in os.environ
    return fleet.address, fleet.pools[0] if only else None
