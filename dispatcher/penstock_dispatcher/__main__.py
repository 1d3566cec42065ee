"""`penstock-dispatcher`: one dispatcher process.

Exit status: 0 after SIGTERM or SIGINT, 1 when the journal or a port cannot be used, 2 for bad
arguments.
"""

import argparse
import asyncio
import logging
import os
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import auth, errors, garbage, memory_limit, server
from penstock_dispatcher.journal import interface

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_log = logging.getLogger("penstock_dispatcher")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock-dispatcher",
        description="The queue of Penstock: admits tasks, keeps them, gives them to workers.",
        epilog="Each option can be set by the environment variable named in its help; an empty one"
        " is as good as none, but for PENSTOCK_HTTP and PENSTOCK_AUTH_FILE.",
    )
    env = os.environ.get
    parser.add_argument(
        "--listen",
        default=env("PENSTOCK_LISTEN") or "0.0.0.0:50051",
        metavar="HOST:PORT",
        help="gRPC address (PENSTOCK_LISTEN; default 0.0.0.0:50051)",
    )
    parser.add_argument(
        "--http",
        default=env("PENSTOCK_HTTP", "0.0.0.0:8080"),
        metavar="HOST:PORT",
        help="metrics and health, empty = none (PENSTOCK_HTTP; default 0.0.0.0:8080)",
    )
    store = parser.add_mutually_exclusive_group()
    store.add_argument(
        "--data",
        type=_path,
        default=env("PENSTOCK_DATA") or None,
        metavar="DIR",
        help="folder of the journal, on a local or block volume (PENSTOCK_DATA)",
    )
    store.add_argument(
        "--memory", action="store_true", help="keep nothing: every task is lost with the process"
    )
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="use a damaged journal without what is damaged in it, and log what that is",
    )
    parser.add_argument(
        "--task-memory",
        type=_bytes,
        default=env("PENSTOCK_TASK_MEMORY") or None,
        metavar="BYTES",
        help="what the tasks of all pools may take of the memory, such as 600Mi: beyond it results"
        " are deleted before their time, and new tasks refused (PENSTOCK_TASK_MEMORY; default:"
        " 70%% of what the container may have beyond 256Mi)",
    )
    parser.add_argument(
        "--auth-file",
        type=_path,
        # An empty one is refused: it was meant to close something.
        default=env("PENSTOCK_AUTH_FILE"),
        metavar="FILE",
        help="tokens and roles as JSON; without it everything is open (PENSTOCK_AUTH_FILE)",
    )
    parser.add_argument(
        "--log-level",
        type=_log_level,
        default=env("PENSTOCK_LOG_LEVEL") or "info",
        metavar=f"{{{','.join(LOG_LEVELS)}}}",
        help="(PENSTOCK_LOG_LEVEL; default info)",
    )
    return parser


def _path(text: str) -> pathlib.Path:
    if not text:
        raise argparse.ArgumentTypeError(
            "is empty: say a path, or leave out the option and its environment variable"
        )
    return pathlib.Path(text)


def _log_level(text: str) -> str:
    # Not `choices`: argparse does not hold a default against them.
    if text.lower() not in LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(LOG_LEVELS)}, is {text!r}")
    return text.lower()


def _bytes(text: str) -> int:
    try:
        return memory_limit.bytes_in(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def settings_from(arguments: Sequence[str] | None = None) -> tuple[server.Settings, str]:
    """Settings and log level from the command line and the environment. Exits with 2 if they are
    bad.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.data is None and not given.memory:
        parser.error("one of --data DIR and --memory is needed")
    settings = server.Settings(
        listen=given.listen,
        http=given.http,
        data=None if given.memory else given.data,
        journal_salvage=given.salvage,
        task_memory_bytes=given.task_memory or memory_limit.for_tasks(memory_limit.available()),
        auth_file=given.auth_file,
    )
    return settings, given.log_level


async def _serve(settings: server.Settings, pools: Sequence[fleet_service_pb2.PoolConfig]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    collecting = asyncio.create_task(garbage.Collector(now=time.monotonic()).run(), name="garbage")
    try:
        await server.run(settings, pools=pools, stop=stop)
    finally:
        collecting.cancel()


def main(
    arguments: Sequence[str] | None = None,
    *,
    pools: Sequence[fleet_service_pb2.PoolConfig] = (),
) -> int:
    """Run until told to stop, with `pools` from the start; returns the exit status."""
    settings, level = settings_from(arguments)
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        asyncio.run(_serve(settings, pools))
    except interface.JournalFailed as error:
        _log.error("the journal cannot be used: %s", error)
        return 1
    except (OSError, auth.PolicyError, errors.Refusal) as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
