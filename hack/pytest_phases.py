"""A pytest plugin: the table of `make test`, one line for each phase and each kind of test, above
pytest's closing line.
"""

import collections
import json
import os
from pathlib import Path

import pytest

_seconds: dict[str, float] = collections.defaultdict(float)
_outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test's setup, call and teardown towards its kind: the folder below tests/."""
    kind = Path(report.nodeid.partition("::")[0]).parts[1]
    _seconds[kind] += report.duration
    if report.when == "call" or report.outcome != "passed":
        _outcomes[kind][report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows = [
        (phase["name"], phase["seconds"], phase["result"])
        for phase in json.loads(Path(os.environ["PENSTOCK_PHASES"]).read_text())
    ]
    for kind, outcomes in _outcomes.items():
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        rows.append((f"tests/{kind}", _seconds[kind], told))
    terminalreporter.section("phases")
    for name, seconds, result in rows:
        terminalreporter.write_line(f"{name:<20} {seconds:>8.1f} s   {result}")
