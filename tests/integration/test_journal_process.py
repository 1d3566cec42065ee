"""The journal in a process of its own: what it is told arrives, and neither of the two outlives the
other.
"""

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface, process, sqlite
from rig import damage, dispatchers

UID = damage.POOLS[0].pool_uid
SECONDS_MAX = 20.0


@pytest_asyncio.fixture
async def journal(tmp_path: pathlib.Path) -> AsyncIterator[process.ProcessJournal]:
    made = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    await made.open()
    await made.append([damage.POOLS[0]])
    yield made
    await made.close()


def pid_of(journal: process.ProcessJournal) -> int:
    assert journal._process is not None
    return journal._process.pid


async def everything(journal: process.ProcessJournal) -> list[interface.StoredTask]:
    found: list[interface.StoredTask] = []
    while page := await journal.load_tasks(found[-1].key if found else -1):
        found.extend(page)
    return found


async def kept(tmp_path: pathlib.Path) -> list[interface.StoredTask]:
    """What the next start finds."""
    again = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    await again.open()
    found = await everything(again)
    await again.close()
    return found


def there(pid: int) -> bool:
    """It runs: whoever inherits a process need not ask for its status."""
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_what_is_kept_is_what_the_journal_would_say_by_itself(tmp_path: pathlib.Path) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    direct = sqlite.SqliteJournal(shutil.copytree(folder, tmp_path / "copy"), reserve_bytes=0)
    expected, tasks = damage.read(direct)
    journal = process.ProcessJournal(folder, reserve_bytes=0)
    opened = await journal.open()
    assert (opened.epoch, opened.operator_epoch, opened.pools) == expected[:3]
    assert await journal.load_requests(-1) == expected.requests
    assert len(expected.requests) > 10
    assert await everything(journal) == tasks
    await journal.close()


async def test_pages_come_in_their_order_and_each_once(
    journal: process.ProcessJournal, tmp_path: pathlib.Path
) -> None:
    count = 2 * interface.LOAD_TASKS_MAX + 1
    for start in range(1, count + 1, 500):
        numbers = range(start, min(start + 500, count + 1))
        await journal.append([damage.accepted(UID, n, body=b"x") for n in numbers])
    await journal.close()
    again = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    await again.open()
    found = await everything(again)
    assert [entry.accepted.sequence for entry in found] == list(range(1, count + 1))
    # Whoever begins anew is not given what was read ahead.
    assert [entry.key for entry in await again.load_tasks(-1)] == [
        entry.key for entry in found[: interface.LOAD_TASKS_MAX]
    ]
    await again.close()


async def test_a_fault_of_its_own_is_told_with_its_place(
    journal: process.ProcessJournal, caplog: pytest.LogCaptureFixture
) -> None:
    no_number: Any = "one"
    with pytest.raises(interface.JournalFailed, match="a fault of the journal: TypeError"):
        await journal.append([damage.accepted(UID, 1, body=b"x")._replace(sequence=no_number)])
    (said,) = [record.getMessage() for record in caplog.records if record.name == process.__name__]
    assert said.startswith("a fault of the journal\nTraceback")
    assert "rows.py" in said


async def test_request_ids_come_in_pages_too(
    journal: process.ProcessJournal, tmp_path: pathlib.Path
) -> None:
    count = interface.LOAD_REQUESTS_MAX + 1
    for start in range(1, count + 1, 500):
        numbers = range(start, min(start + 500, count + 1))
        tasks = [damage.accepted(UID, n, body=b"x", request_id=f"r{n}") for n in numbers]
        await journal.append([*tasks, *(records.TaskDeleted(UID, n, f"t{n}") for n in numbers)])
    await journal.close()
    again = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    await again.open()
    first = await again.load_requests(-1)
    assert len(first) == interface.LOAD_REQUESTS_MAX
    (last,) = await again.load_requests(first[-1].key)
    assert (last.pool_uid, last.request_id) == (UID, f"r{count}")
    assert not await again.load_requests(last.key)
    assert not await again.load_tasks(-1)
    await again.close()


@pytest.mark.parametrize("large", ["result", "checkpoint"])
async def test_a_page_ends_after_some_megabytes_of_what_became_of_tasks(
    journal: process.ProcessJournal, tmp_path: pathlib.Path, large: str
) -> None:
    content, count = b"x" * 1024 * 1024, 40
    await journal.append([damage.accepted(UID, n, body=b"x") for n in range(1, count + 1)])
    for n in range(1, count + 1):
        ended = damage.ended(UID, n, result=content)
        checkpoint = records.TaskCheckpointed(UID, n, f"t{n}", content)
        await journal.append([ended if large == "result" else checkpoint])
    await journal.close()
    again = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    await again.open()
    fits = interface.LOAD_BYTES_MAX // len(content) + 1
    first = await again.load_tasks(-1)
    second = await again.load_tasks(first[-1].key)
    third = await again.load_tasks(second[-1].key)
    assert [len(page) for page in (first, second, third)] == [fits, fits, count - 2 * fits]
    assert [entry.accepted.sequence for entry in (*first, *second, *third)] == [
        *range(1, count + 1)
    ]
    await again.close()


async def test_a_page_ends_after_some_megabytes(
    journal: process.ProcessJournal, tmp_path: pathlib.Path
) -> None:
    body = b"x" * 1024 * 1024
    for n in range(1, 25):
        await journal.append([damage.accepted(UID, n, body=body)])
    await journal.close()
    again = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    await again.open()
    assert len(await again.load_tasks(-1)) == interface.LOAD_BYTES_MAX // len(body) + 1
    await again.close()
    assert len(await kept(tmp_path)) == 24


async def test_an_answer_that_nobody_waits_for_is_not_taken_for_another(
    journal: process.ProcessJournal, tmp_path: pathlib.Path
) -> None:
    first = asyncio.ensure_future(journal.append([damage.accepted(UID, 1, body=b"x" * 500_000)]))
    await asyncio.sleep(0)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert await journal.compact(0) is False
    await journal.append([damage.accepted(UID, 2, body=b"x")])
    await journal.close()
    assert [entry.accepted.sequence for entry in await kept(tmp_path)] == [1, 2]


async def test_no_room_is_told_and_passes(tmp_path: pathlib.Path) -> None:
    journal = process.ProcessJournal(tmp_path / "data", pages_max=200, reserve_bytes=40 * 1024)
    await journal.open()
    await journal.append([damage.POOLS[0]])
    assert not journal.full()
    sequence = 0

    async def fill() -> None:
        nonlocal sequence
        while sequence < 10_000:
            numbers = range(sequence + 1, sequence + 51)
            await journal.append([damage.accepted(UID, n, body=b"x" * 1_000) for n in numbers])
            sequence += 50

    with pytest.raises(interface.StorageFull):
        await fill()
    assert journal.full()
    await journal.append([records.TaskDeleted(UID, n, f"t{n}") for n in range(1, sequence + 1)])
    while await journal.compact(0):
        pass
    assert not journal.full()
    await journal.close()


async def test_what_follows_a_batch_without_room_is_refused_with_it(tmp_path: pathlib.Path) -> None:
    """Else its records would be durable before those that come before them."""
    journal = process.ProcessJournal(tmp_path / "data", pages_max=200, reserve_bytes=40 * 1024)
    await journal.open()
    await journal.append([damage.POOLS[0]])
    large = [damage.accepted(UID, n, body=b"x" * 1_000_000) for n in (1, 2)]
    small = [damage.accepted(UID, 3, body=b"x")]
    for _ in range(2):
        answers = (
            journal.append(large),
            journal.append(small, follows=True),
            journal.append(small, follows=True),
        )
        for answer in answers:
            with pytest.raises(interface.StorageFull):
                await answer
        assert not await journal.load_tasks(-1)
    await journal.append(small)
    await journal.append([records.TaskDeleted(UID, 3, "t3")], follows=True)
    assert not await journal.load_tasks(-1)
    await journal.close()


async def test_what_salvage_leaves_out_is_logged(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    (folder / sqlite.LOG_NAME).unlink()
    refused = process.ProcessJournal(folder, reserve_bytes=0)
    with pytest.raises(interface.JournalFailed, match="its end is missing"):
        await refused.open()
    await refused.close()
    journal = process.ProcessJournal(folder, reserve_bytes=0, salvage=True)
    await journal.open()
    assert "left out: the last" in caplog.text
    await journal.close()


# ---------------------------------------------------------------- life and death


async def test_closing_ends_the_process_and_gives_the_file_back(
    journal: process.ProcessJournal, tmp_path: pathlib.Path
) -> None:
    pid = pid_of(journal)
    await journal.close()
    await journal.close()
    assert not there(pid)
    connection = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME, timeout=0)
    assert connection.execute("SELECT count(*) FROM pools").fetchone() == (1,)
    connection.close()


async def test_a_process_that_is_killed_is_a_journal_that_failed(
    journal: process.ProcessJournal,
) -> None:
    os.kill(pid_of(journal), signal.SIGKILL)
    with pytest.raises(interface.JournalFailed, match="its process has ended"):
        await journal.append([damage.accepted(UID, 1, body=b"x")])
    with pytest.raises(interface.JournalFailed, match="its process has ended"):
        await journal.compact(0)


async def test_a_process_that_does_not_end_is_killed(
    journal: process.ProcessJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.2)
    pid = pid_of(journal)
    os.kill(pid, signal.SIGSTOP)
    await journal.close()
    assert not there(pid)


async def test_signals_for_the_whole_group_leave_it_to_the_dispatcher(
    journal: process.ProcessJournal, tmp_path: pathlib.Path
) -> None:
    assert os.getpgid(pid_of(journal)) != os.getpgrp()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid_of(journal), number)
    await journal.append([damage.accepted(UID, 1, body=b"x")])
    await journal.close()
    assert len(await kept(tmp_path)) == 1


def test_it_starts_without_grpc_and_messages(tmp_path: pathlib.Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from penstock_dispatcher.journal import served, sqlite\n"
        "journal = sqlite.SqliteJournal(pathlib.Path(sys.argv[1]), reserve_bytes=0)\n"
        "journal.open()\n"
        "journal.close()\n"
        "print({'grpc', 'asyncio', 'google.protobuf', 'penstock'} & set(sys.modules))\n"
    )
    for _ in range(2):  # a new file, and one that is there
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stdout == "set()\n"


async def test_what_went_wrong_is_told_and_not_that_the_process_has_ended(
    tmp_path: pathlib.Path,
) -> None:
    told: list[interface.JournalFailed] = []
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / sqlite.FILE_NAME).write_bytes(b"not a database, but long enough" * 100)
    journal = process.ProcessJournal(tmp_path / "data", failed=told.append)
    with pytest.raises(interface.JournalFailed, match="not a database"):
        await journal.open()
    async with asyncio.timeout(SECONDS_MAX):
        while not told:
            await asyncio.sleep(0.02)
    with pytest.raises(interface.JournalFailed, match="not a database"):
        await journal.compact(0)
    assert "not a database" in str(told)
    await journal.close()


async def test_a_folder_whose_name_is_no_unicode(tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()  # noqa: ASYNC240 - some microseconds
    (folder / sqlite.FILE_NAME).write_bytes(b"not a database, but long enough" * 100)
    journal = process.ProcessJournal(folder)
    with pytest.raises(interface.JournalFailed, match="not a database"):
        await journal.open()
    await journal.close()


async def test_a_start_waits_for_whoever_still_has_the_file(tmp_path: pathlib.Path) -> None:
    before = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    before.open()
    journal = process.ProcessJournal(tmp_path / "data", reserve_bytes=0)
    opening = asyncio.ensure_future(journal.open())
    await asyncio.sleep(1)
    assert not opening.done()
    before.close()
    assert (await opening).epoch == 2
    await journal.close()


async def test_a_dispatcher_whose_journal_is_killed_ends_and_says_so(
    dispatcher_process: dispatchers.DispatcherProcess, stubs_for: Any
) -> None:
    dispatcher_process.configure()
    stubs = stubs_for(dispatcher_process.address)
    accepted = (await stubs.submit(payload=b"x")).name
    assert dispatcher_process.process is not None
    os.kill(dispatcher_process.journal_pid, signal.SIGKILL)
    assert await asyncio.to_thread(dispatcher_process.process.wait, SECONDS_MAX) == 1
    said = dispatcher_process.log.read_text()
    assert "the journal cannot be used: its process has ended" in said
    assert "Traceback" not in said
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    assert (await stubs.get(accepted)).name == accepted
    await stubs.channel.close()


async def test_a_dispatcher_that_is_killed_leaves_no_process_behind(
    dispatcher_process: dispatchers.DispatcherProcess,
) -> None:
    pid = dispatcher_process.journal_pid
    dispatcher_process.kill()
    async with asyncio.timeout(SECONDS_MAX):
        while there(pid):
            await asyncio.sleep(0.02)
    await asyncio.to_thread(dispatcher_process.start)
    pid = dispatcher_process.journal_pid
    assert dispatcher_process.terminate() == 0
    assert not there(pid)
