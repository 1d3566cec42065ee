"""The folder of a local fleet: who holds it, and who is found in it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from penstock_operator.local import state


def record(pid: int, **changes: object) -> state.Record:
    found = {"start_time": state.start_time(pid) or 0, "address": "a:1", "pools": ("p",), **changes}
    return state.Record(pid=pid, **found)  # type: ignore[arg-type]


def test_where_it_is() -> None:
    home = pathlib.Path("/home/me/.local/state/penstock")
    assert state.root({"HOME": "/home/me"}) == home
    assert state.root({"HOME": "/home/me", "XDG_STATE_HOME": "relative"}) == home
    assert state.root({}) == pathlib.Path("/.local/state/penstock")
    one = {"XDG_STATE_HOME": "/x"}
    assert state.default_folder(one, namespace="default", pool="p") == pathlib.Path("/x/penstock/p")
    assert state.default_folder(one, namespace="n", pool="p") == pathlib.Path("/x/penstock/n.p")


def test_one_at_a_time(tmp_path: pathlib.Path) -> None:
    folder, other = state.Folder(tmp_path / "f"), state.Folder(tmp_path / "f")
    with folder.claimed():
        claim = other.claimed()
        with pytest.raises(state.InUse, match=f"in use by process {os.getpid()}") as refused:
            claim.__enter__()
        assert refused.value.pid == os.getpid()
    with other.claimed():
        pass


def test_a_stale_record_is_nobody_and_goes(tmp_path: pathlib.Path) -> None:
    folder = state.Folder(tmp_path)
    folder.write(record(os.getpid(), ready=True))
    assert folder.read() == record(os.getpid(), ready=True)
    folder.write(record(os.getpid(), start_time=1))
    assert folder.read() is None, "the id is used again by another process"
    with folder.claimed():
        assert not (tmp_path / "fleet.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"pid": 1, "pools": None})])
def test_a_record_that_cannot_be_read_is_nobody(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "fleet.json").write_text(text)
    assert state.Folder(tmp_path).read() is None


def test_who_runs(tmp_path: pathlib.Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert state.running(environ) == []
    for name in ("a", "b"):
        folder = state.Folder(tmp_path / "penstock" / name)
        folder.path.mkdir(parents=True)
        folder.write(record(os.getpid() if name == "a" else 2**22 + 1))
    [(folder, found)] = state.running(environ)
    assert (folder.path.name, found.pid) == ("a", os.getpid())
    elsewhere = {**environ, state.VARIABLE: str(tmp_path / "penstock" / "b")}
    assert state.running(elsewhere) == []


def test_signals_reach_the_process_of_the_record_or_nobody() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        found = record(child.pid)
        with state.Process(found) as process:
            assert not process.ended(seconds=0)
            process.send(signal.SIGKILL)
            assert process.ended(seconds=10)
            assert state.start_time(child.pid) is None, "it waits for its parent, and is over"
    finally:
        child.kill()
        child.wait()
    with pytest.raises(ProcessLookupError):
        state.Process(found)
    with pytest.raises(ProcessLookupError):
        state.Process(record(os.getpid(), start_time=1))


def test_what_workers_there_were(tmp_path: pathlib.Path) -> None:
    folder = state.Folder(tmp_path)
    assert folder.remembered() == {}
    folder.remember({"p": {"uid": "name"}})
    assert folder.remembered() == {"p": {"uid": "name"}}
