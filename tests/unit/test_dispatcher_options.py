"""The dispatcher's command line: what an option or a variable that is empty or wrong does."""

import pathlib

import pytest

from penstock_dispatcher import __main__ as program


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN", "HTTP", "DATA", "TASK_MEMORY", "AUTH_FILE", "LOG_LEVEL"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str, status: int | str | None = 2
) -> str:
    with pytest.raises(SystemExit) as caught:
        program.settings_from(arguments)
    assert caught.value.code == status
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["LISTEN", "TASK_MEMORY", "LOG_LEVEL", "DATA"])
def test_an_empty_variable_is_as_good_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = program.settings_from(["--memory"])
    monkeypatch.setenv(f"PENSTOCK_{name}", "")
    assert program.settings_from(["--memory"]) == unset


def test_an_empty_folder_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA", "")
    assert "one of --data DIR and --memory is needed" in refused(capsys)
    assert "--data: is empty: say a path" in refused(capsys, "--data", "")
    monkeypatch.setenv("PENSTOCK_DATA", "/data")
    given, _ = program.settings_from([])
    assert given.data == pathlib.Path("/data")


def test_an_empty_auth_file_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--auth-file: is empty" in refused(capsys, "--memory", "--auth-file", "")
    monkeypatch.setenv("PENSTOCK_AUTH_FILE", "")
    assert "--auth-file: is empty" in refused(capsys, "--memory")


def test_an_empty_http_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HTTP", "")
    given, _ = program.settings_from(["--memory"])
    assert given.http == ""


def test_log_levels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.settings_from(["--memory", "--log-level", "DEBUG"])[1] == "debug"
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "loud")
    assert "must be one of debug, info, warning, error, is 'loud'" in refused(capsys, "--memory")
