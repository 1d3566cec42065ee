"""A pytest plugin: for each kind of test (the folder below tests/) the seconds it took, and what
came of it, written to the file that PENSTOCK_PHASES names, for the table of `make test`.
"""

import collections
import json
import os
from pathlib import Path

import pytest

_seconds: dict[str, float] = collections.defaultdict(float)
_outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test's setup, call and teardown towards its kind."""
    kind = Path(report.nodeid.partition("::")[0]).parts[1]
    _seconds[kind] += report.duration
    if report.when == "call" or report.outcome != "passed":
        _outcomes[kind][report.outcome] += 1


def pytest_sessionfinish() -> None:
    """Write it down."""
    rows = [
        {"name": f"tests/{kind}", "seconds": _seconds[kind], "outcomes": dict(outcomes)}
        for kind, outcomes in _outcomes.items()
    ]
    Path(os.environ["PENSTOCK_PHASES"]).write_text(json.dumps(rows))
