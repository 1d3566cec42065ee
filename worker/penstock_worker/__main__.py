"""`penstock-worker module:attr`: serve the handlers that are registered there."""

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path

from penstock_worker import app, starting


class _UsageError(Exception):
    pass


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 stopped in order, 1 could not go on, 2 unusable arguments,
    environment or handlers' module.
    """
    starting.heed_signals()
    parser = argparse.ArgumentParser(
        prog="penstock-worker",
        description="Run tasks of a Penstock pool. The pool and the dispatcher come from PENSTOCK_…"
        " variables, which the operator sets in pods.",
    )
    parser.add_argument(
        "app",
        nargs="?",
        default=os.environ.get("PENSTOCK_APP", ""),
        metavar="MODULE:ATTRIBUTE",
        help="where the Worker is, for example handlers:worker (default: $PENSTOCK_APP;"
        " the attribute defaults to 'worker')",
    )
    options = parser.parse_args(arguments)
    try:
        worker = load(options.app)
    except _UsageError as error:
        print(f"penstock-worker: {error}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 2
    return starting.serve(worker)


def load(where: str) -> app.Worker:
    """The Worker at `module:attribute`; modules of the current folder can be named."""
    module_name, _, attribute = where.partition(":")
    if not module_name:
        raise _UsageError("name the handlers: penstock-worker MODULE[:ATTRIBUTE]")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]:
            where = f"{Path.cwd()} or the environment"
            raise _UsageError(f"no module {module_name!r} in {where}") from None
        traceback.print_exc()
        raise _UsageError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}: the traceback above"
            " shows where"
        ) from None
    worker = getattr(module, attribute or "worker", None)
    if not isinstance(worker, app.Worker):
        raise _UsageError(
            f"{module_name}:{attribute or 'worker'} is not a penstock_worker.Worker: add"
            " 'worker = Worker()' or name the right attribute"
        )
    return worker


if __name__ == "__main__":
    sys.exit(main())
