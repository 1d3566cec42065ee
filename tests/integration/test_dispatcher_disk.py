"""A disk that fails under a real dispatcher: EIO in reads, writes and syncs, of file and log; and
no room, which comes and goes.
"""

import asyncio
import contextlib
import pathlib
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import task_pb2
from penstock_dispatcher import server
from rig import dispatchers, faulty_disk, figures, kills, small_disk, wire

reachable = pytest.mark.skipif(
    not faulty_disk.reachable(), reason="this Python's SQLite is no library of its own"
)
HACK = str(pathlib.Path(faulty_disk.__file__).parents[1])
PAYLOAD = b"x" * 20_000


@pytest.fixture
def failing(
    dispatcher_process: dispatchers.DispatcherProcess, monkeypatch: pytest.MonkeyPatch
) -> dispatchers.DispatcherProcess:
    """A dispatcher with pools, whose disk does what `fault` says."""
    dispatcher_process.configure(wire.pool_config(max_pending=100_000, reconnect_grace=0))
    assert dispatcher_process.terminate() == 0
    monkeypatch.setenv("PYTHONPATH", HACK)
    faults = str(dispatcher_process.folder / "faults")
    dispatcher_process.program = ["-m", "rig.faulty_disk", faults]
    dispatcher_process.start()
    return dispatcher_process


def fault(process: dispatchers.DispatcherProcess, *what: str) -> None:
    """From now on; nothing = the disk is sound."""
    (process.folder / "faults").write_text("\n".join(what))


async def submit_until_it_ends(stubs: wire.Stubs, accepted: list[str], *, count: int) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        for _ in range(count):
            accepted.append((await stubs.submit(payload=PAYLOAD)).name)  # noqa: PERF401


@reachable
@pytest.mark.parametrize("what", ["log write", "log sync", "file write", "file sync"])
async def test_an_error_of_the_disk_ends_the_process_and_loses_nothing(
    failing: dispatchers.DispatcherProcess, stubs_for: Any, what: str
) -> None:
    stubs, accepted = stubs_for(failing.address), list[str]()
    await submit_until_it_ends(stubs, accepted, count=30)
    assert len(accepted) == 30
    fault(failing, what)
    # The file is written when the log is moved into it: after some megabytes.
    await asyncio.gather(*(submit_until_it_ends(stubs, accepted, count=1_000) for _ in range(4)))
    assert failing.process is not None
    assert await asyncio.to_thread(failing.process.wait, 30) == 1
    said = failing.log.read_text()
    assert "the journal cannot be used" in said
    assert "disk I/O error" in said
    assert "is damaged" not in said
    fault(failing)
    await asyncio.to_thread(failing.start)
    await stubs.channel.channel_ready()
    assert set(accepted) <= set(await kills.every_task(stubs))
    await stubs.channel.close()


@reachable
@pytest.mark.parametrize("what", ["file read", "log read"])
async def test_a_disk_that_cannot_be_read_is_no_damage(
    failing: dispatchers.DispatcherProcess, stubs_for: Any, what: str
) -> None:
    stubs, accepted = stubs_for(failing.address), list[str]()
    await submit_until_it_ends(stubs, accepted, count=30)
    # The journal itself: one that sees its dispatcher die first may still move the log away.
    failing.kill_journal()
    fault(failing, what)
    with pytest.raises(RuntimeError, match="the journal cannot be used") as error:
        await asyncio.to_thread(failing.start)
    assert "disk I/O error" in str(error.value)
    assert "Traceback" not in str(error.value)
    # Nobody is told to restore a backup, or to leave something out.
    assert "is damaged" not in str(error.value)
    fault(failing)
    await asyncio.to_thread(failing.start)
    await stubs.channel.channel_ready()
    assert set(await kills.every_task(stubs)) == set(accepted)
    await stubs.channel.close()


async def refusal(stubs: wire.Stubs, rich: Any) -> Any:
    """What somebody is told who submits while there is no room. Calls that came before it was
    known are left alone: they are answered when there is room again.
    """
    async with asyncio.timeout(30):
        while True:
            try:
                async with asyncio.timeout(2):
                    await stubs.submit()
            except grpc.aio.AioRpcError as error:
                return rich(error)
            except TimeoutError:
                continue


async def admitted_again(stubs: wire.Stubs) -> str:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return str((await stubs.submit()).name)
            await asyncio.sleep(0.2)


@reachable
async def test_no_room_at_all_delays_and_loses_nothing(
    failing: dispatchers.DispatcherProcess, stubs_for: Any, rich: Any
) -> None:
    stubs, accepted = stubs_for(failing.address), list[str]()
    await submit_until_it_ends(stubs, accepted, count=5)
    worker = await wire.RawWorker(stubs, pod="pod-1", slots=5).connect()
    running = await worker.assigned(5)
    fault(failing, "log full")
    await worker.succeed(*running, credit=0)
    waiting = asyncio.ensure_future(stubs.submit())  # let in before anybody knew of it
    refused = await refusal(stubs, rich)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE")
    assert failing.process is not None
    assert failing.process.poll() is None
    fault(failing)
    assert set((await worker.acks(5)).values()) == {True}
    with contextlib.suppress(grpc.aio.AioRpcError):
        accepted.append((await waiting).name)
    accepted.append(await admitted_again(stubs))
    failing.kill()
    await asyncio.to_thread(failing.start)
    await stubs.channel.channel_ready()
    found = await kills.every_task(stubs)
    assert set(accepted) <= set(found)
    done = [task for task in found.values() if task.state == task_pb2.Task.SUCCEEDED]
    assert {task.name for task in done} == {one.task.name for one in running}
    await stubs.channel.close()


# ---------------------------------------------------------------- a disk that is really full


async def fill_a_disk_under_load(folder: pathlib.Path) -> None:
    """Runs in a process whose `folder` is a disk of its own, of 40 MiB."""
    reserve_bytes = 4 * figures.MIB
    served = dispatchers.Served(
        server.Settings(
            listen="127.0.0.1:0", data=folder / "data", journal_reserve_bytes=reserve_bytes
        ),
        [wire.pool_config(max_pending=100_000)],
    )
    await served.start()
    stubs = served.stubs()
    worker = await served.worker("pod-1", slots=50)
    running = [await stubs.submit() for _ in range(50)]
    assigned = await worker.assigned(50)
    filler = (folder / "filler").open("wb", buffering=0)
    with contextlib.suppress(OSError):
        for _ in range(30):
            filler.write(b"x" * figures.MIB)
    accepted: list[str] = []
    refused = None
    while refused is None:
        try:
            accepted.append((await stubs.submit(payload=PAYLOAD * 10)).name)
        except grpc.aio.AioRpcError as error:
            refused = error
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert "storage is full" in refused.details()
    # What runs is completed, durably: in the room that the reserve had.
    await worker.succeed(*assigned, result=b"r" * 1_000, credit=0)
    assert set((await worker.acks(50)).values()) == {True}
    for task in running:
        assert (await stubs.get(task.name)).state == task_pb2.Task.SUCCEEDED
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.submit()
    filler.close()
    (folder / "filler").unlink()
    accepted.append(await admitted_again(stubs))
    await served.restart()
    found = await kills.every_task(served.stubs())
    assert {*accepted, *(task.name for task in running)} == set(found)
    await served.close()


def test_a_full_disk_closes_admission_and_lets_completion_go_on(tmp_path: pathlib.Path) -> None:
    small_disk.run(fill_a_disk_under_load, __file__, tmp_path / "disk", mib=40)
