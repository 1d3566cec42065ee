"""The command line: `penstock COMMAND`, and `kubectl penstock COMMAND` for the pools of a cluster.

A thin layer over `penstock.SyncClient`: `submitting`, `tasks`, `watching`, `looking`, `overview`,
`operating`, `serving` and `completing` hold the commands, `source` reads what is to be submitted,
`output` writes what was found, `connection` holds the options that say where the dispatcher is,
`finding` and `forwarding` find it, and `failures` turns every error into one line and an exit
status. Its libraries come with the extra `cli`; without them `main` says so.
"""

import sys

_LIBRARIES = ("click", "rich", "yaml")


def main() -> int:
    """The console script `penstock`; returns the exit status."""
    return _run(program="penstock", kube=False)


def kubectl_main() -> int:
    """The console script `kubectl-penstock`, which kubectl runs for `kubectl penstock`."""
    return _run(program="kubectl penstock", kube=True)


def kubectl_complete_main() -> int:
    """The console script `kubectl_complete-penstock`, which kubectl asks for words."""
    from penstock.cli import app, completing

    return completing.complete_for_kubectl(app.penstock, sys.argv[1:])


def _run(*, program: str, kube: bool) -> int:
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
    return app.run(sys.argv[1:], program=program, kube=kube)
