"""`penstock-worker module:attr`: serve the handlers that are registered there.
`penstock-worker exec -- command`: run the command for each task.
"""

import argparse
import os
import sys

from penstock_worker import loading, modes, starting


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 stopped in order, 1 could not go on, 2 unusable arguments,
    environment, command or handlers' module.
    """
    starting.heed_signals()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        mode = _exec(given[1:]) if given[:1] == ["exec"] else _handlers(given)
    except loading.LoadingError as error:
        print(f"penstock-worker: {error}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 2
    return starting.serve(mode)


def _exec(arguments: list[str]) -> modes.Mode:
    from penstock_worker import exec_options

    return exec_options.mode(arguments)


def _handlers(arguments: list[str]) -> modes.Mode:
    parser = argparse.ArgumentParser(
        prog="penstock-worker",
        description="Run tasks of a Penstock pool. The pool and the dispatcher come from PENSTOCK_…"
        " variables, which the operator sets in pods.",
        epilog="penstock-worker exec --help: run any command instead of Python handlers",
    )
    parser.add_argument(
        "app",
        nargs="?",
        default=os.environ.get("PENSTOCK_APP", ""),
        metavar="MODULE:ATTRIBUTE",
        help="where the Worker is, for example handlers:worker (default: $PENSTOCK_APP;"
        " the attribute defaults to 'worker')",
    )
    parser.add_argument(
        "--isolation",
        choices=("thread", "process"),
        default="thread",
        help="where handlers run: in threads of the worker (the default), or in a process for each"
        " slot, which can be killed when a handler does not stop, and may crash alone",
    )
    options = parser.parse_args(arguments)
    worker = loading.load(options.app)
    if options.isolation == "process":
        return modes.Processes(worker, options.app)
    return modes.Threads(worker)


if __name__ == "__main__":
    sys.exit(main())
