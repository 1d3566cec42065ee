"""The version of the distribution that this package came in."""

import importlib.metadata


def version() -> str:
    """For example "0.1.0"; "unknown" outside an installation."""
    try:
        return importlib.metadata.version("penstock")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
