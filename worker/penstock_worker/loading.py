"""Finds the `Worker` that a user names: `module:attribute`, from the current folder or the path."""

import importlib
import sys
import traceback
from pathlib import Path

from penstock_worker import app


class LoadingError(Exception):
    """There is none; the message says why in one line."""


def load(where: str) -> app.Worker:
    """The Worker at `module:attribute`; modules of the current folder can be named.

    Raises LoadingError, after the traceback of a module that could not be imported.
    """
    module_name, _, attribute = where.partition(":")
    if not module_name:
        raise LoadingError("name the handlers: penstock-worker MODULE[:ATTRIBUTE]")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]:
            where = f"{Path.cwd()} or the environment"
            raise LoadingError(f"no module {module_name!r} in {where}") from None
        traceback.print_exc()
        raise LoadingError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}: the traceback above"
            " shows where"
        ) from None
    worker = getattr(module, attribute or "worker", None)
    if not isinstance(worker, app.Worker):
        raise LoadingError(
            f"{module_name}:{attribute or 'worker'} is not a penstock_worker.Worker: add"
            " 'worker = Worker()' or name the right attribute"
        )
    return worker
