"""The command line: `penstock submit | get | list | wait | cancel | pools | workers | dispatcher`.

A thin layer over `penstock.SyncClient`: `submitting`, `tasks`, `looking` and `serving` hold the
commands, `source` reads what is to be submitted, `output` writes what was found, `connection` holds
the options that say where the dispatcher is, and `failures` turns every error into one line and an
exit status. Its libraries come with the extra `cli`; without them `main` says so.
"""

import sys

_LIBRARIES = ("click", "rich", "yaml")


def main() -> int:
    """The console script `penstock`; returns the exit status."""
    try:
        from penstock.cli import app
    except KeyboardInterrupt:
        return 130  # as `app.run` does, once there is one
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        print(
            f"penstock: the command line needs {error.name}: pip install 'penstock[cli]'",
            file=sys.stderr,
        )
        return 2
    return app.run(sys.argv[1:])
